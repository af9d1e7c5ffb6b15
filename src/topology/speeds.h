// The matrix in the form that both solvers use: whole bits per second, so that sums are exact in any order and equal rings
// compare equal.
#pragma once

#include <cstdint>
#include <vector>

#include "topology/ring.h"

namespace pccl::topology {

/// The speed of every directed link. A ring must not use a link of speed 0.
class Speeds {
public:
    /// A link needs both directions reachable. An unmeasured link gets the median speed of the measured links.
    explicit Speeds(const Matrix &matrix);

    std::size_t size() const { return n_; }
    std::int64_t at(std::size_t from, std::size_t to) const { return bits_[from * n_ + to]; }

private:
    std::size_t n_;
    std::vector<std::int64_t> bits_;
};

using Ring = std::vector<std::size_t>;

/// The quality of a ring in bits per second. Compares by the slowest link, then by the sum.
struct Score {
    std::int64_t slowest = 0;
    std::int64_t sum = 0;
    friend auto operator<=>(const Score &, const Score &) = default;
};
Score score(const Speeds &speeds, const Ring &ring);

}  // namespace pccl::topology
