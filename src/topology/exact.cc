// See topology/exact.h.
#include "topology/exact.h"

#include <algorithm>

namespace pccl::topology {
namespace {

constexpr std::int64_t kNone = -1;

/// A table with an entry for each set of visited peers and last visited peer: the value of the best path from there through all
/// other peers and back to peer 0 over links of at least `threshold`, or kNone if there is no such path. The value of a path is
/// `join` of the speeds of its links.
///
/// Peer 0 is in every set, so the number of a set needs bits for the other peers only: bit i is peer i + 1.
template <class Join> class Table {
public:
    Table(const Speeds &speeds, std::int64_t threshold, Join join)
        : speeds_(speeds), threshold_(threshold), join_(join), n_(speeds.size()),
          value_((std::size_t{1} << (n_ - 1)) * n_, kNone) {
        for (std::size_t set = all() + 1; set-- > 0;)
            for (std::size_t last = 0; last < n_; ++last)
                if (last == 0 ? set == 0 : (set & bit(last)) != 0) value_[set * n_ + last] = best(set, last);
    }

    std::size_t all() const { return (std::size_t{1} << (n_ - 1)) - 1; }
    static std::size_t bit(std::size_t peer) { return std::size_t{1} << (peer - 1); }
    std::int64_t value(std::size_t set, std::size_t last) const { return value_[set * n_ + last]; }

    /// The value of the best path whose next step is from `last` to `next`.
    std::int64_t through(std::size_t set, std::size_t last, std::size_t next) const {
        const std::int64_t link = speeds_.at(last, next);
        if (link < threshold_) return kNone;
        if (next == 0) return link;
        const std::int64_t rest = value(set | bit(next), next);
        return rest == kNone ? kNone : join_(link, rest);
    }

private:
    std::int64_t best(std::size_t set, std::size_t last) const {
        if (set == all()) return through(set, last, 0);
        std::int64_t found = kNone;
        for (std::size_t next = 1; next < n_; ++next)
            if (!(set & bit(next))) found = std::max(found, through(set, last, next));
        return found;
    }

    const Speeds &speeds_;
    std::int64_t threshold_;
    Join join_;
    std::size_t n_;
    std::vector<std::int64_t> value_;
};

}  // namespace

std::optional<Ring> exact_ring(const Speeds &speeds) {
    const std::size_t n = speeds.size();
    if (n == 1) return Ring{0};
    const auto slower = [](std::int64_t a, std::int64_t b) { return std::min(a, b); };
    const auto sum = [](std::int64_t a, std::int64_t b) { return a + b; };
    const std::int64_t slowest = Table(speeds, 1, slower).value(0, 0);
    if (slowest == kNone) return std::nullopt;

    // Among the rings without a link below that speed, take the one with the largest sum. At each step take the smallest peer
    // that keeps the largest sum.
    const Table table(speeds, slowest, sum);
    Ring ring{0};
    std::size_t set = 0;
    while (ring.size() < n) {
        const std::size_t last = ring.back();
        std::size_t next = 1;
        while ((set & table.bit(next)) || table.through(set, last, next) != table.value(set, last))
            ++next;
        set |= table.bit(next);
        ring.push_back(next);
    }
    return ring;
}

}  // namespace pccl::topology
