// A 64-bit mixing function (splitmix64): seeds, patterns and checks that are the same in every process.
#pragma once

#include <cstdint>

namespace pccl::tools {

constexpr std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

}  // namespace pccl::tools
