// Local search over directed rings: no move may reverse a section of the ring, because a link's two directions differ.
//
// There is one move: it cuts the ring in three pieces and exchanges two of them (3-opt without reversal; or-opt is the case of a
// short piece). The move has two uses. First it removes links below a threshold, and moves sideways where no move removes one.
// Then it increases the sum without adding such a link. A binary search over the occurring speeds finds the threshold.
#include "topology/local_search.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace pccl::topology {
namespace {

/// The number of moves that all threshold trials together, and all polishing together, may evaluate. A move takes about a
/// nanosecond.
constexpr std::int64_t kThresholdWork = 200'000'000, kPolishWork = 200'000'000;
constexpr std::size_t kStepsPerPeer = 100, kKicksPerPeer = 12, kStarts = 4, kMaxPiece = 30;

/// splitmix64 with a fixed seed, so that one matrix always gives the same ring.
class Random {
public:
    std::size_t below(std::size_t limit) {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return static_cast<std::size_t>((z ^ (z >> 31)) % limit);
    }

private:
    std::uint64_t state_ = 0;
};

/// The two cuts of a ring that is written as a path starting behind the removed link: after `j` and after `k`, with j < k < size
/// - 1.
struct Cut {
    std::size_t j = 0, k = 0;
};

/// A ring that is being changed, and the two ways to improve it.
class Search {
public:
    Search(const Speeds &speeds, Random &random) : speeds_(speeds), random_(random), n_(speeds.size()) {}

    /// Exchanges pieces of `ring` until no link is below `threshold`. Returns false if it gave up; `ring` is then no better than
    /// before.
    bool repair(Ring &ring, std::int64_t threshold, std::int64_t work);

    /// Increases the sum by hill climbing with random perturbations. No link is below `threshold` before or after the call.
    void polish(Ring &ring, std::int64_t threshold, std::int64_t work);

private:
    bool good(std::size_t from, std::size_t to) const { return speeds_.at(from, to) >= threshold_; }
    std::size_t bad_links(const Ring &ring, std::vector<std::size_t> &at) const;
    std::optional<Cut> removing_cut(const Ring &path, std::optional<Cut> &sideways);
    std::optional<Cut> raising_cut(const Ring &path);
    void climb(Ring &ring);
    void kick(Ring &ring);

    /// Writes the ring as a path that starts behind the ring's i-th link.
    static void start_behind(Ring &ring, std::size_t i) {
        std::rotate(ring.begin(), ring.begin() + static_cast<std::ptrdiff_t>((i + 1) % ring.size()), ring.end());
    }
    static void exchange(Ring &path, Cut cut) {
        std::rotate(path.begin() + static_cast<std::ptrdiff_t>(cut.j) + 1, path.begin() + static_cast<std::ptrdiff_t>(cut.k) + 1,
                    path.end());
    }

    const Speeds &speeds_;
    Random &random_;
    std::size_t n_;
    std::int64_t threshold_ = 0;
    std::int64_t work_ = 0;
};

std::size_t Search::bad_links(const Ring &ring, std::vector<std::size_t> &at) const {
    at.clear();
    for (std::size_t i = 0; i < n_; ++i)
        if (!good(ring[i], ring[(i + 1) % n_])) at.push_back(i);
    return at.size();
}

/// `path` ends before a bad link. Returns a cut that lowers the number of bad links. If there is none, `sideways` receives a
/// random cut that keeps the number. The end of the path always gets a good link.
std::optional<Cut> Search::removing_cut(const Ring &path, std::optional<Cut> &sideways) {
    const std::size_t end = path[n_ - 1], begin = path[0], first = random_.below(n_ - 2);
    std::size_t seen = 0;
    for (std::size_t step = 0; step < n_ - 2; ++step) {
        const std::size_t j = (first + step) % (n_ - 2);
        if (!good(end, path[j + 1])) continue;
        const int removed_at_j = good(path[j], path[j + 1]) ? 0 : 1;
        work_ -= static_cast<std::int64_t>(n_ - j);
        for (std::size_t k = j + 1; k < n_ - 1; ++k) {
            const int removed = removed_at_j + (good(path[k], path[k + 1]) ? 0 : 1) + 1;
            const int added = (good(path[j], path[k + 1]) ? 0 : 1) + (good(path[k], begin) ? 0 : 1);
            if (added < removed) return Cut{j, k};
            if (added == removed && random_.below(++seen) == 0) sideways = Cut{j, k};
        }
    }
    return std::nullopt;
}

bool Search::repair(Ring &ring, std::int64_t threshold, std::int64_t work) {
    threshold_ = threshold;
    work_ = work;
    Ring now = ring;
    std::vector<std::size_t> bad;
    for (std::size_t step = 0; step < kStepsPerPeer * n_ && work_ > 0; ++step) {
        if (bad_links(now, bad) == 0) {
            ring = std::move(now);
            return true;
        }
        work_ -= static_cast<std::int64_t>(n_);
        start_behind(now, bad[random_.below(bad.size())]);
        std::optional<Cut> sideways;
        if (const auto cut = removing_cut(now, sideways))
            exchange(now, *cut);
        else if (sideways)
            exchange(now, *sideways);
        else
            kick(now);
    }
    return false;
}

/// Returns the cut that increases the sum most. At least one of the three links that an improving move adds is faster than the
/// link that it replaces at the same peer. So the search looks, from every peer, only at links that are faster than the peer's
/// present link.
std::optional<Cut> Search::raising_cut(const Ring &path) {
    const std::size_t end = path[n_ - 1], begin = path[0];
    std::int64_t best = 0;
    std::optional<Cut> found;
    for (std::size_t j = 0; j < n_ - 2; ++j) {
        const std::int64_t at_end = speeds_.at(end, path[j + 1]) - speeds_.at(end, begin);
        if (at_end <= 0) continue;
        const std::int64_t at_j = at_end - speeds_.at(path[j], path[j + 1]);
        work_ -= static_cast<std::int64_t>(n_ - j);
        for (std::size_t k = j + 1; k < n_ - 1; ++k) {
            const std::int64_t from_j = speeds_.at(path[j], path[k + 1]), from_k = speeds_.at(path[k], begin);
            const std::int64_t gain = at_j + from_j + from_k - speeds_.at(path[k], path[k + 1]);
            if (gain <= best || from_j < threshold_ || from_k < threshold_) continue;
            best = gain;
            found = Cut{j, k};
        }
    }
    return found;
}

/// Climbs to a local optimum, or until the budget of moves is spent.
void Search::climb(Ring &ring) {
    std::size_t without_gain = 0;
    while (without_gain < n_ && work_ > 0) {
        work_ -= static_cast<std::int64_t>(n_);
        start_behind(ring, 0);
        const auto cut = raising_cut(ring);
        if (cut) exchange(ring, *cut);
        without_gain = cut ? 0 : without_gain + 1;
    }
}

/// Turns three neighbouring pieces B C D into D C B: a change that no single exchange undoes.
void Search::kick(Ring &ring) {
    start_behind(ring, random_.below(n_));
    const std::size_t longest = std::max<std::size_t>(1, std::min(kMaxPiece, (n_ - 1) / 3));
    std::array<std::size_t, 3> length{};
    for (std::size_t &piece : length)
        piece = 1 + random_.below(longest);
    while (length[0] + length[1] + length[2] > n_)
        --*std::max_element(length.begin(), length.end());
    const auto c = ring.begin() + static_cast<std::ptrdiff_t>(length[0]), d = c + static_cast<std::ptrdiff_t>(length[1]),
               end = d + static_cast<std::ptrdiff_t>(length[2]);
    const auto c_in_place = std::rotate(ring.begin(), d, end);  // D B C
    std::rotate(c_in_place, c_in_place + static_cast<std::ptrdiff_t>(length[0]), end);
}

void Search::polish(Ring &ring, std::int64_t threshold, std::int64_t work) {
    threshold_ = threshold;
    work_ = work;
    climb(ring);
    std::int64_t best = score(speeds_, ring).sum;
    for (std::size_t kicks = 0; kicks < kKicksPerPeer * n_ && work_ > 0; ++kicks) {
        Ring other = ring;
        kick(other);
        const std::int64_t left = work_;
        const std::int64_t most = std::min<std::int64_t>(left, static_cast<std::int64_t>(20 * n_ * n_));
        const bool repaired = repair(other, threshold, most);
        work_ += left - most;
        if (!repaired) continue;
        climb(other);
        const std::int64_t sum = score(speeds_, other).sum;
        if (sum < best) continue;
        best = sum;
        ring = std::move(other);
    }
}

/// Builds a ring from `start` that always continues to the unvisited peer with the fastest link.
Ring greedy(const Speeds &speeds, std::size_t start) {
    Ring ring(speeds.size());
    std::iota(ring.begin(), ring.end(), 0);
    std::swap(ring[0], ring[start]);
    for (std::size_t i = 1; i < ring.size(); ++i) {
        const auto fastest =
            std::max_element(ring.begin() + static_cast<std::ptrdiff_t>(i), ring.end(),
                             [&](std::size_t a, std::size_t b) { return speeds.at(ring[i - 1], a) < speeds.at(ring[i - 1], b); });
        std::iter_swap(ring.begin() + static_cast<std::ptrdiff_t>(i), fastest);
    }
    return ring;
}

/// The speeds that the slowest link of a ring can have, in ascending order. Each peer has at least one incoming and one outgoing
/// link.
std::vector<std::int64_t> thresholds(const Speeds &speeds) {
    std::vector<std::int64_t> out;
    std::int64_t most = INT64_MAX;
    for (std::size_t a = 0; a < speeds.size(); ++a) {
        std::int64_t fastest_out = 0, fastest_in = 0;
        for (std::size_t b = 0; b < speeds.size(); ++b) {
            fastest_out = std::max(fastest_out, speeds.at(a, b));
            fastest_in = std::max(fastest_in, speeds.at(b, a));
            if (speeds.at(a, b) > 0) out.push_back(speeds.at(a, b));
        }
        most = std::min({most, fastest_out, fastest_in});
    }
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    out.erase(std::upper_bound(out.begin(), out.end(), most), out.end());
    return out;
}

/// Searches from `ring` and from several greedy rings.
bool repair_from_somewhere(Search &search, const Speeds &speeds, Ring &ring, std::int64_t threshold, std::int64_t work) {
    const std::size_t n = speeds.size();
    for (std::size_t start = 0; start <= kStarts; ++start) {
        Ring trial = start == 0 ? ring : greedy(speeds, (start - 1) * n / kStarts);
        if (!search.repair(trial, threshold, work / static_cast<std::int64_t>(kStarts + 1))) continue;
        ring = std::move(trial);
        return true;
    }
    return false;
}

}  // namespace

std::optional<Ring> search_ring(const Speeds &speeds) {
    const std::vector<std::int64_t> possible = thresholds(speeds);
    if (possible.empty()) return std::nullopt;
    Random random;
    Search search(speeds, random);
    constexpr std::int64_t kTrials = 16;
    Ring ring = greedy(speeds, 0);
    if (!repair_from_somewhere(search, speeds, ring, possible.front(), kThresholdWork / kTrials)) return std::nullopt;

    std::size_t low = 0, high = possible.size() - 1;
    while (low < high) {
        const std::size_t middle = low + (high - low + 1) / 2;
        if (repair_from_somewhere(search, speeds, ring, possible[middle], kThresholdWork / kTrials)) {
            const auto reached = std::lower_bound(possible.begin(), possible.end(), score(speeds, ring).slowest);
            low = static_cast<std::size_t>(reached - possible.begin());
        } else {
            high = middle - 1;
        }
    }
    search.polish(ring, possible[low], kPolishWork);
    std::rotate(ring.begin(), std::find(ring.begin(), ring.end(), 0), ring.end());
    return ring;
}

}  // namespace pccl::topology
