// Plans the rest of an all-reduce that has lost members. Pure: every member computes the same plan.
//
// An element that is final at any member keeps its value. It is sent along the ring to the members that miss it, once to each, by
// the predecessor, which holds it or has just received it. An element that is final at no member is reduced again: every member
// still has its own contribution.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "collective/ring_plan.h"
#include "op/final_ranges.h"

namespace pccl::collective {

/// Elements that are final at some members and missing at others.
struct MissingChunk {
    Span span;
    std::uint32_t members = 0;  ///< the number of members whose contributions are in them
    std::vector<bool> held;     ///< by rank
};

struct RepairPlan {
    std::vector<Span> open;             ///< elements that are final at no member
    std::vector<MissingChunk> missing;  ///< each entry has at most `max_chunk_elements` elements
};

/// `held` lists by rank the elements that are final there, of `count` elements. If two ranks disagree on the number of
/// contributors, the lower rank's number is used. Ranges beyond `count` are cut off. Each list must be well_formed().
RepairPlan plan_repair(std::size_t count, const std::vector<op::FinalRanges> &held, std::size_t max_chunk_elements);

/// Returns the ranges in ascending order and merges adjacent ranges with equal numbers of members. Where two overlap, the first
/// is kept.
op::FinalRanges joined(op::FinalRanges ranges);

/// The smallest number of contributors of any element, and the number of elements with that number.
struct Participation {
    std::uint32_t fewest = 0;
    std::uint64_t elements = 0;
};
Participation participation(const op::FinalRanges &ranges);

}  // namespace pccl::collective
