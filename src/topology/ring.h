// Bandwidth matrix in, ring order out. Pure and deterministic.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace pccl::topology {

/// What is known of the directed path from one peer to another.
struct Path {
    bool reachable = true;
    double mbit_per_s = 0;  ///< 0: not measured
};

/// Square, row = sender, column = receiver; the diagonal is ignored.
class Matrix {
public:
    explicit Matrix(std::size_t n) : n_(n), paths_(n * n) {}
    std::size_t size() const { return n_; }
    Path &at(std::size_t from, std::size_t to) { return paths_[from * n_ + to]; }
    const Path &at(std::size_t from, std::size_t to) const { return paths_[from * n_ + to]; }

private:
    std::size_t n_;
    std::vector<Path> paths_;
};

/// How good a ring is: the slowest of its links first, then the sum over its links. Links that were not measured count as the median
/// of those that were (as 1 where none was).
struct Quality {
    double slowest = 0;
    double sum = 0;
};
Quality quality(const Matrix &matrix, const std::vector<std::size_t> &ring);

inline constexpr std::size_t kExactLimit = 12;

/// The ring over all peers that maximises (slowest, then sum), exact up to kExactLimit peers and by local search beyond. The ring
/// starts at peer 0; among equals the lexicographically smallest is taken (exactly so up to kExactLimit). A ring of one is {0}.
/// A link of the ring needs both directions reachable, since acknowledgements flow back. nullopt: no such ring exists (or, beyond
/// kExactLimit, none was found).
std::optional<std::vector<std::size_t>> best_ring(const Matrix &matrix);

}  // namespace pccl::topology
