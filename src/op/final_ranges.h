// Elements of an operation whose result is final. Lists of ranges are in ascending order and do not overlap.
#pragma once

#include <cstdint>
#include <vector>

namespace pccl::op {

/// Elements whose result no later loss of a member can change.
struct FinalRange {
    std::uint64_t begin = 0;
    std::uint64_t count = 0;
    std::uint32_t members = 0;  ///< members whose contributions are in these elements
    friend bool operator==(const FinalRange &, const FinalRange &) = default;
};
using FinalRanges = std::vector<FinalRange>;

}  // namespace pccl::op
