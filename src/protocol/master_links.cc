// Who can talk to whom: every two peers of a group get a link, dialled from one side and, if that fails, from the other.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {
namespace {

/// A pair that could not be linked from either side, or that broke too often, is left alone: a ring around it is found instead.
constexpr int kTries = 2;
constexpr int kMaxBreaks = 8;
/// One that broke so often of late is a neighbourhood only if there is no ring without it: a path may let connections be made and swallow
/// what is sent over them, and each time that costs an operation its patience.
constexpr int kDoubtfulBreaks = 2;
constexpr Duration kRetryAfter = std::chrono::minutes(1);
/// A link that has stood for so long is as good as new, however often it broke before.
constexpr Duration kForgiveAfter = std::chrono::minutes(10);

}  // namespace

Master::Pair &Master::pair(PeerId a, PeerId b) { return pairs_[std::minmax(a, b)]; }

const Master::Pair *Master::find_pair(PeerId a, PeerId b) const {
    const auto found = pairs_.find(std::minmax(a, b));
    return found == pairs_.end() ? nullptr : &found->second;
}

void Master::open_pair(PeerId a, PeerId b, PeerId dialler) {
    Pair &link = pair(a, b);
    link.state = Pair::State::dialing;
    link.dialler = dialler;
    link.first_up = link.second_up = false;
    link.round_trip_us = 0;
    ++link.attempt;
    ++link.tries;
    const Secret token = random_();
    const std::uint32_t lanes = std::max(peers_.at(a).lanes, peers_.at(b).lanes);
    for (const auto &[self, other] : {std::pair{a, b}, std::pair{b, a}}) {
        send(peers_.at(self), wire::OpenLink{other, link.attempt, self == dialler, peers_.at(other).address, lanes, token});
    }
}

void Master::on_link_report(Peer &peer, const wire::LinkReport &report) {
    const auto found = pairs_.find(std::minmax(peer.id, report.other));
    if (found == pairs_.end() || found->second.attempt != report.attempt) return;  // of a peer or an attempt that is history
    Pair &link = found->second;
    const bool was_up = link.state == Pair::State::up;
    if (report.up) {
        (peer.id < report.other ? link.first_up : link.second_up) = true;
        link.round_trip_us = std::max(link.round_trip_us, report.round_trip_us);
        if (!was_up && link.first_up && link.second_up) {
            link.state = Pair::State::up;
            link.tries = 0;
            link.why.clear();
        }
        return refresh_ready();
    }
    if (link.state == Pair::State::down) return;
    link.why = report.why;
    const std::string what = "the link between " + to_string(peer.id) + " and " + to_string(report.other) +
                             (was_up ? " broke: " : " could not be made: ") + report.why;
    note(was_up ? LogLevel::warn : LogLevel::info, what);
    if (was_up) {
        if (now_ - link.broke_at > kForgiveAfter) link.breaks = 0;
        ++link.breaks;
        link.broke_at = now_;
    }
    const PeerId other_side = link.dialler == peer.id ? report.other : peer.id;
    if (link.tries < kTries && link.breaks < kMaxBreaks) {
        open_pair(peer.id, report.other, was_up ? link.dialler : other_side);
    } else {
        link.state = Pair::State::down;
        link.down_since = now_;
        note(LogLevel::warn,
             to_string(peer.id) + " and " + to_string(report.other) + " cannot reach each other: they will not be neighbours");
    }
    const Peer *other = member(report.other);
    if (was_up && peer.member && other) begin_freeze(peer.group, what);
    refresh_ready();
}

/// What kept two peers apart may have passed: once a minute it is tried again, for the next ring.
void Master::retry_pairs() {
    for (auto &[ids, link] : pairs_) {
        if (link.state != Pair::State::down || now_ - link.down_since < kRetryAfter) continue;
        link.tries = 0;
        link.breaks = std::min(link.breaks, kMaxBreaks - 1);  // one more
        open_pair(ids.first, ids.second, link.dialler);
    }
}

bool Master::reopen_pair(PeerId a, PeerId b, FreezeState &freeze) {
    const auto found = pairs_.find(std::minmax(a, b));
    if (found == pairs_.end() || found->second.state != Pair::State::down || found->second.breaks >= kMaxBreaks) return false;
    if (!freeze.retried.insert(found->first).second) return false;
    Pair &link = found->second;
    // Those that were tried in this very freeze have had their chance.
    if (link.down_since >= freeze.since) return false;
    link.tries = 0;
    open_pair(a, b, link.dialler);
    return true;
}

bool Master::all_settled(PeerId id, const std::vector<PeerId> &others) const {
    return std::ranges::all_of(others, [&](PeerId other) {
        const Pair *link = find_pair(id, other);
        return !link || link->state != Pair::State::dialing;
    });
}

/// It can carry something, and has not broken again and again of late.
bool Master::steady(const Pair &link) const {
    return link.state == Pair::State::up && (link.breaks < kDoubtfulBreaks || now_ - link.broke_at > kForgiveAfter);
}

topology::Matrix Master::matrix_of(const std::vector<PeerId> &ids, Trust trust) const {
    topology::Matrix matrix(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
        for (std::size_t j = 0; j < ids.size(); ++j) {
            if (i == j) continue;
            const Pair *link = find_pair(ids[i], ids[j]);
            matrix.at(i, j).reachable = link && usable(*link, trust);
            if (link) matrix.at(i, j).mbit_per_s = ids[i] < ids[j] ? link->mbit_forth : link->mbit_back;
        }
    }
    return matrix;
}

std::optional<std::vector<PeerId>> Master::ring_of(const std::vector<PeerId> &ids) const {
    auto order = topology::best_ring(matrix_of(ids, Trust::steady));
    if (!order) order = topology::best_ring(matrix_of(ids, Trust::any));
    if (!order) return std::nullopt;
    std::vector<PeerId> ring;
    for (const std::size_t i : *order)
        ring.push_back(ids[i]);
    return ring;
}

bool Master::full_mesh(const std::vector<PeerId> &ids) const {
    for (std::size_t i = 0; i < ids.size(); ++i) {
        for (std::size_t j = i + 1; j < ids.size(); ++j) {
            const Pair *link = find_pair(ids[i], ids[j]);
            if (!link || link->state != Pair::State::up) return false;
        }
    }
    return true;
}

/// Gives the group a ring, and with it what its members will know of their paths: the same at all of them.
void Master::set_ring(Group &group, const std::vector<PeerId> &ring) {
    group.ring = ring;
    group.full_mesh = full_mesh(ring);
    group.path = {};
    for (std::size_t i = 0; i < ring.size(); ++i) {
        for (std::size_t j = i + 1; j < ring.size(); ++j) {
            const Pair *link = find_pair(ring[i], ring[j]);
            if (link && link->state == Pair::State::up) group.path.round_trip_us = std::max(group.path.round_trip_us, link->round_trip_us);
        }
    }
    double slowest = 0;
    for (std::size_t i = 0; ring.size() > 1 && i < ring.size(); ++i) {
        const PeerId from = ring[i], to = ring[(i + 1) % ring.size()];
        const Pair *link = find_pair(from, to);
        const double mbit = !link ? 0 : from < to ? link->mbit_forth : link->mbit_back;
        if (mbit <= 0) return;
        slowest = i == 0 ? mbit : std::min(slowest, mbit);
    }
    group.path.mbit_per_s = static_cast<std::uint32_t>(std::clamp(slowest, 0.0, 4e9));
}

/// Whether they all fit in together: some may need each other to be in a ring.
bool Master::make_ready(std::vector<PeerId> &joined, const std::vector<PeerId> &newcomers) {
    std::vector<PeerId> all;
    std::ranges::set_union(joined, newcomers, std::back_inserter(all));
    if (!std::ranges::all_of(newcomers, [&](PeerId id) { return all_settled(id, all); })) return false;
    if (!full_mesh(all) && !ring_of(all)) return false;
    for (const PeerId id : newcomers) peers_.at(id).ready = true;
    joined = std::move(all);
    return true;
}

void Master::refresh_ready() {
    fit_newcomers({});
    for (auto &[id, peer] : peers_) peer.fits = peer.ready;
    // An island is admitted whole: where one of its peers is missing or fits in no ring, it is as if the others were not there either.
    std::set<PeerId> absent;
    for (auto more = stranded(absent); !more.empty(); more = stranded(absent)) {
        absent.merge(more);
        fit_newcomers(absent);
    }
    refuse_hopeless();
}

/// Which newcomers could be admitted if those that are `absent` had not come.
void Master::fit_newcomers(const std::set<PeerId> &absent) {
    std::map<GroupId, std::vector<PeerId>> joined, waiting;
    for (auto &[id, peer] : peers_) {
        peer.ready = false;
        if (!absent.contains(id)) (peer.member ? joined : waiting)[peer.group].push_back(id);
    }
    for (const auto &[group, newcomers] : waiting) make_ready(joined[group], newcomers);
    // Else one by one. One newcomer may be what makes a ring with another possible: so again, until nothing changes.
    for (bool changed = true; changed;) {
        changed = false;
        for (auto &[id, peer] : peers_) {
            if (peer.member || peer.ready || absent.contains(id)) continue;
            changed = make_ready(joined[peer.group], {id}) || changed;
        }
    }
}

/// Newcomers that no ring includes are told so, once it is clear that waiting does not help.
void Master::refuse_hopeless() {
    std::vector<PeerId> hopeless;
    for (const auto &[id, peer] : peers_) {
        if (peer.member || peer.fits || now_ - peer.call_since < options_.misuse_grace) continue;
        // Not while a link is being made: of its own, between members, or of another newcomer, which may be what makes a ring possible.
        std::vector<PeerId> all;
        for (const auto &[other, theirs] : peers_) {
            if (theirs.group == peer.group) all.push_back(other);
        }
        const auto known = groups_.find(peer.group);
        const bool frozen = known != groups_.end() && known->second.freeze;
        const bool settled = std::ranges::all_of(all, [&](PeerId other) { return all_settled(other, all); });
        if (settled && !frozen) hopeless.push_back(id);
    }
    for (const PeerId id : hopeless) {
        if (!peers_.contains(id)) continue;  // went with the one before, whose removal looked at all newcomers again
        std::string whom;
        for (const PeerId other : members_of(peers_.at(id).group)) {
            const Pair *link = find_pair(id, other);
            if (link && link->state == Pair::State::down)
                whom += (whom.empty() ? "" : ", ") + to_string(other) + " (" + link->why + ")";
        }
        remove(id, pcclRankConnectionFailed,
               to_string(id) + " cannot join: no ring includes it; no link to " + whom +
                   "; check its firewall, or advertise an address that the others can reach");
    }
}

}  // namespace pccl::protocol
