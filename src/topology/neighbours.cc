// See topology/neighbours.h.
#include "topology/neighbours.h"

#include <algorithm>
#include <optional>

namespace pccl::topology {

/// splitmix64 (Steele, Lea, Flood 2014).
struct Graph::Random {
    std::uint64_t state;

    std::uint64_t next() {
        state += 0x9e3779b97f4a7c15;
        std::uint64_t z = state;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
    template <class C> const auto &any_of(const C &items) { return items[below(items.size())]; }
};

namespace {

constexpr int kTries = 16;

bool chosen(GraphKind kind) { return kind == GraphKind::random_regular || kind == GraphKind::preferential; }

}  // namespace

Graph::Graph(const GraphSpec &spec, std::uint64_t changes, const std::vector<PeerId> &members, const std::vector<Edge> &edges)
    : spec_(spec), changes_(changes) {
    for (const PeerId member : members)
        near_[member];
    for (const auto &[a, b] : edges) {
        if (a != b && near_.contains(a) && near_.contains(b)) link(a, b);
    }
}

std::vector<PeerId> Graph::members() const {
    std::vector<PeerId> ids;
    for (const auto &[id, others] : near_)
        ids.push_back(id);
    return ids;
}

std::vector<Graph::Edge> Graph::edges() const {
    std::vector<Edge> all;
    for (const auto &[a, others] : near_) {
        for (const PeerId b : others) {
            if (a < b) all.emplace_back(a, b);
        }
    }
    return all;
}

std::vector<PeerId> Graph::neighbours(PeerId of) const {
    const auto found = near_.find(of);
    if (found == near_.end()) return {};
    if (chosen(spec_.kind)) return {found->second.begin(), found->second.end()};
    const auto ids = members();
    const std::size_t n = ids.size(), rank = static_cast<std::size_t>(std::distance(near_.begin(), found));
    std::vector<PeerId> result;
    if (n < 2) return result;
    if (spec_.kind == GraphKind::exponential) {
        for (std::size_t step = 1; step < n; step *= 2)
            result.push_back(ids[(rank + step) % n]);
    } else if (spec_.kind == GraphKind::ring) {
        result = {ids[(rank + n - 1) % n], ids[(rank + 1) % n]};
        std::ranges::sort(result);
        result.erase(std::unique(result.begin(), result.end()),
                     result.end());  // clang 14 does not compile std::ranges::unique of GCC 12
    }
    return result;
}

bool Graph::update(const std::set<PeerId> &members) {
    const auto now = this->members();
    if (std::ranges::equal(now, members)) return false;
    Random random{spec_.seed + 0x632be59bd9b4e019 * ++changes_};
    for (const PeerId gone : now) {
        if (members.contains(gone)) continue;
        for (const PeerId other : std::set<PeerId>(near_.at(gone)))
            cut(gone, other);
        near_.erase(gone);
    }
    std::vector<PeerId> newcomers;
    for (const PeerId member : members) {
        if (!near_.contains(member)) newcomers.push_back(member);
    }
    if (!chosen(spec_.kind)) {
        for (const PeerId member : newcomers)
            near_[member];
        return true;
    }
    std::vector<PeerId> ends = ends_of_edges();
    for (const PeerId member : newcomers) {
        if (spec_.kind == GraphKind::preferential)
            insert_preferential(member, ends, random);
        else
            insert_regular(member, random);
    }
    fill(random);
    join_parts();
    if (spec_.kind == GraphKind::random_regular) trim();
    return true;
}

void Graph::link(PeerId a, PeerId b) {
    near_.at(a).insert(b);
    near_.at(b).insert(a);
}

void Graph::cut(PeerId a, PeerId b) {
    near_.at(a).erase(b);
    near_.at(b).erase(a);
}

std::size_t Graph::least() const { return near_.empty() ? 0 : std::min<std::size_t>(spec_.degree, near_.size() - 1); }

/// Inserts the member into existing edges, between the two ends of each, so that the ends keep their number of neighbours.
void Graph::insert_regular(PeerId member, Random &random) {
    std::vector<PeerId> lacking;
    for (const auto &[id, others] : near_) {
        if (others.size() < spec_.degree) lacking.push_back(id);
    }
    near_[member];
    while (near_[member].size() < least() && !lacking.empty()) {
        const std::size_t at = random.below(lacking.size());
        link(member, lacking[at]);
        lacking.erase(lacking.begin() + static_cast<std::ptrdiff_t>(at));
    }
    while (near_[member].size() + 2 <= least() && make_way(member, random)) {
    }
}

/// Inserts the member into an edge between two members that are not its neighbours.
bool Graph::make_way(PeerId member, Random &random) {
    const auto free = [&](PeerId a, PeerId b) { return a != member && b != member && !linked(a, member) && !linked(b, member); };
    std::optional<Edge> edge;
    for (int tries = 0; tries < kTries && !edge; ++tries) {
        const auto &[a, others] = *std::next(near_.begin(), static_cast<std::ptrdiff_t>(random.below(near_.size())));
        if (others.empty()) continue;
        const PeerId b = *std::next(others.begin(), static_cast<std::ptrdiff_t>(random.below(others.size())));
        if (free(a, b)) edge.emplace(a, b);
    }
    if (!edge) {  // random attempts failed because only a small number of edges qualify: look at all
        auto all = edges();
        std::erase_if(all, [&](const Edge &e) { return !free(e.first, e.second); });
        if (all.empty()) return false;
        edge = random.any_of(all);
    }
    const auto [a, b] = *edge;
    cut(a, b);
    link(member, a);
    link(member, b);
    return true;
}

/// Gives the member a neighbour of another member that has too many.
bool Graph::take_over(PeerId member, Random &random) {
    std::vector<std::pair<PeerId, PeerId>> free;
    for (const auto &[rich, others] : near_) {
        if (rich == member || others.size() <= spec_.degree) continue;
        for (const PeerId other : others) {
            if (other != member && !linked(other, member)) free.emplace_back(rich, other);
        }
    }
    if (free.empty()) return false;
    const auto [rich, other] = random.any_of(free);
    cut(rich, other);
    link(member, other);
    return true;
}

/// Lists each member once, and once more for each neighbour: a random entry is a choice by degree.
std::vector<PeerId> Graph::ends_of_edges() const {
    std::vector<PeerId> ends;
    for (const auto &[id, others] : near_)
        ends.insert(ends.end(), others.size() + 1, id);
    return ends;
}

void Graph::insert_preferential(PeerId member, std::vector<PeerId> &ends, Random &random) {
    near_[member];
    while (near_[member].size() < least()) {
        std::optional<PeerId> other;
        for (int tries = 0; tries < kTries && !other; ++tries) {
            const PeerId drawn = random.any_of(ends);
            if (drawn != member && !linked(drawn, member)) other = drawn;
        }
        if (!other) other = choose(member, random);
        link(member, *other);
        ends.push_back(member);
        ends.push_back(*other);
    }
    ends.push_back(member);
}

/// Chooses a new neighbour for `member`. At least one member is not its neighbour yet.
PeerId Graph::choose(PeerId member, Random &random) const {
    std::vector<PeerId> candidates;
    if (spec_.kind == GraphKind::preferential) {
        candidates = ends_of_edges();
        std::erase_if(candidates, [&](PeerId id) { return id == member || linked(id, member); });
        return random.any_of(candidates);
    }
    std::size_t fewest = SIZE_MAX;
    for (const auto &[id, others] : near_) {
        if (id == member || linked(id, member)) continue;
        if (others.size() < fewest) candidates.clear();
        fewest = std::min(fewest, others.size());
        if (others.size() == fewest) candidates.push_back(id);
    }
    return random.any_of(candidates);
}

/// Adds edges until no member has too few neighbours. If all others have enough, the member takes over a neighbour of one that
/// has too many, or is inserted into an edge.
void Graph::fill(Random &random) {
    for (;;) {
        std::vector<PeerId> lacking;
        for (const auto &[id, others] : near_) {
            if (others.size() < least()) lacking.push_back(id);
        }
        if (lacking.empty()) return;
        const PeerId member = random.any_of(lacking);
        const bool alone = std::ranges::all_of(lacking, [&](PeerId other) { return other == member || linked(other, member); });
        const bool two = near_.at(member).size() + 2 <= least();
        if (spec_.kind == GraphKind::random_regular && alone && (take_over(member, random) || (two && make_way(member, random))))
            continue;
        link(member, choose(member, random));
    }
}

/// The connected components of the graph, the largest first.
std::vector<std::vector<PeerId>> Graph::parts() const {
    std::vector<std::vector<PeerId>> all;
    std::set<PeerId> seen;
    for (const auto &[start, ignored] : near_) {
        if (!seen.insert(start).second) continue;
        std::vector<PeerId> part{start};
        for (std::size_t i = 0; i < part.size(); ++i) {
            for (const PeerId other : near_.at(part[i])) {
                if (seen.insert(other).second) part.push_back(other);
            }
        }
        all.push_back(std::move(part));
    }
    std::ranges::stable_sort(all, std::ranges::greater(), &std::vector<PeerId>::size);
    return all;
}

/// Connects each component to the largest one by an edge. It joins the members with the fewest neighbours of both; in a
/// preferential graph it takes the member with the most neighbours of the largest component.
void Graph::join_parts() {
    const auto all = parts();
    const auto degree = [&](PeerId id) { return near_.at(id).size(); };
    for (std::size_t i = 1; i < all.size(); ++i) {
        const PeerId hub = spec_.kind == GraphKind::preferential ? *std::ranges::max_element(all[0], {}, degree)
                                                                 : *std::ranges::min_element(all[0], {}, degree);
        link(*std::ranges::min_element(all[i], {}, degree), hub);
    }
}

/// Removes edges between two members that both have more neighbours than they need, where the graph stays connected.
void Graph::trim() {
    for (const auto &[a, b] : edges()) {
        if (near_.at(a).size() <= spec_.degree || near_.at(b).size() <= spec_.degree) continue;
        cut(a, b);
        if (parts().size() > 1) link(a, b);
    }
}

}  // namespace pccl::topology
