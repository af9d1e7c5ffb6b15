// Computes the ring order from a bandwidth matrix. Pure and deterministic.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace pccl::topology {

/// A directed path from one peer to another.
struct Path {
    bool reachable = true;
    double mbit_per_s = 0;  ///< 0 if the path was not measured
};

/// A square matrix of paths. The row is the sender and the column the receiver. The diagonal is ignored.
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

/// The quality of a ring: its slowest link, then the sum over its links. A link that was not measured counts as the median of the
/// measured links, or as 1 if no link was measured.
struct Quality {
    double slowest = 0;
    double sum = 0;
};
Quality quality(const Matrix &matrix, const std::vector<std::size_t> &ring);

inline constexpr std::size_t kExactLimit = 12;

/// Returns the ring over all peers that maximises the slowest link, then the sum: exactly up to kExactLimit peers, by local
/// search beyond. The ring starts at peer 0. Among equal rings it is the lexicographically smallest one (guaranteed up to
/// kExactLimit). The ring of one peer is {0}. A link needs both directions reachable, because acknowledgements flow back. Returns
/// nullopt if no ring exists or, beyond kExactLimit, none was found.
std::optional<std::vector<std::size_t>> best_ring(const Matrix &matrix);

}  // namespace pccl::topology
