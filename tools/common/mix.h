// The mixing function of SplitMix64. Tools and tests use it to derive seeds, patterns and checksums that are equal in every
// process. Source: Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators.
#pragma once

#include <cstdint>

namespace pccl::tools {

/// Mixes 64 bits: equal inputs give equal outputs, similar inputs unrelated outputs.
constexpr std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

}  // namespace pccl::tools
