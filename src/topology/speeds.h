// The matrix as both solvers see it: whole bits per second, so that sums are exact in any order and ties are ties.
#pragma once

#include <cstdint>
#include <vector>

#include "topology/ring.h"

namespace pccl::topology {

/// The speed of every directed link; 0: a ring must not use it.
class Speeds {
public:
    /// A link needs both directions reachable. Unmeasured links get the median of the measured ones.
    explicit Speeds(const Matrix &matrix);

    std::size_t size() const { return n_; }
    std::int64_t at(std::size_t from, std::size_t to) const { return bits_[from * n_ + to]; }

private:
    std::size_t n_;
    std::vector<std::int64_t> bits_;
};

using Ring = std::vector<std::size_t>;

/// How good a ring is, in bits per second. Compares by the slowest link, then the sum.
struct Score {
    std::int64_t slowest = 0;
    std::int64_t sum = 0;
    friend auto operator<=>(const Score &, const Score &) = default;
};
Score score(const Speeds &speeds, const Ring &ring);

}  // namespace pccl::topology
