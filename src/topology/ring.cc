// See topology/ring.h.
#include "topology/ring.h"

#include <algorithm>
#include <cmath>

#include "topology/exact.h"
#include "topology/local_search.h"

namespace pccl::topology {
namespace {

// The cap keeps a sum over hundreds of thousands of links from overflowing.
constexpr double kBitsPerMbit = 1e6, kMaxMbit = 1e7;

bool measured(const Path &path) { return path.reachable && path.mbit_per_s > 0 && std::isfinite(path.mbit_per_s); }

double median_of_measured(const Matrix &matrix) {
    std::vector<double> known;
    for (std::size_t from = 0; from < matrix.size(); ++from)
        for (std::size_t to = 0; to < matrix.size(); ++to)
            if (from != to && measured(matrix.at(from, to))) known.push_back(matrix.at(from, to).mbit_per_s);
    if (known.empty()) return 1;
    std::sort(known.begin(), known.end());
    const std::size_t half = known.size() / 2;
    return known.size() % 2 == 1 ? known[half] : (known[half - 1] / 2 + known[half] / 2);
}

std::int64_t to_bits(double mbit) { return std::max<std::int64_t>(1, std::llround(std::min(mbit, kMaxMbit) * kBitsPerMbit)); }

}  // namespace

Speeds::Speeds(const Matrix &matrix) : n_(matrix.size()), bits_(n_ * n_) {
    const std::int64_t unmeasured = to_bits(median_of_measured(matrix));
    for (std::size_t from = 0; from < n_; ++from) {
        for (std::size_t to = 0; to < n_; ++to) {
            const Path &path = matrix.at(from, to);
            if (from == to || !path.reachable || !matrix.at(to, from).reachable) continue;
            bits_[from * n_ + to] = measured(path) ? to_bits(path.mbit_per_s) : unmeasured;
        }
    }
}

Score score(const Speeds &speeds, const Ring &ring) {
    if (ring.size() < 2) return {};
    Score out{INT64_MAX, 0};
    for (std::size_t i = 0; i < ring.size(); ++i) {
        const std::int64_t link = speeds.at(ring[i], ring[(i + 1) % ring.size()]);
        out.slowest = std::min(out.slowest, link);
        out.sum += link;
    }
    return out;
}

Quality quality(const Matrix &matrix, const std::vector<std::size_t> &ring) {
    const Score bits = score(Speeds(matrix), ring);
    return {static_cast<double>(bits.slowest) / kBitsPerMbit, static_cast<double>(bits.sum) / kBitsPerMbit};
}

std::optional<std::vector<std::size_t>> best_ring(const Matrix &matrix) {
    if (matrix.size() == 0) return Ring{};
    const Speeds speeds(matrix);
    return matrix.size() <= kExactLimit ? exact_ring(speeds) : search_ring(speeds);
}

}  // namespace pccl::topology
