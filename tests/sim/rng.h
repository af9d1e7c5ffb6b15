// Random numbers that are the same for a seed on every machine and library: SplitMix64 and integer arithmetic only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/time.h"

namespace pccl::sim {

/// Mixes 64 bits: equal inputs give equal outputs, and similar inputs give unrelated outputs.
constexpr std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}
constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) { return mix(mix(a) ^ b); }

class Rng {
public:
    explicit Rng(std::uint64_t seed) : state_(mix(seed)) {}

    std::uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15); }
    /// In [0, limit); 0 if limit is 0.
    std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : next() % limit; }
    /// In [low, high].
    std::int64_t between(std::int64_t low, std::int64_t high) {
        return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low + 1)));
    }
    Duration between(Duration low, Duration high) { return Duration(between(low.count(), high.count())); }
    bool per_mille(unsigned chance) { return below(1000) < chance; }

    template <class T> const T &pick(const std::vector<T> &from) { return from[below(from.size())]; }
    template <class T> void shuffle(std::vector<T> &items) {
        for (std::size_t i = items.size(); i > 1; --i)
            std::swap(items[i - 1], items[below(i)]);
    }

private:
    std::uint64_t state_;
};

}  // namespace pccl::sim
