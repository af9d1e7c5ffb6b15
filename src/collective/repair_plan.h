// What an all-reduce that lost members still has to do. Pure, the same at every member.
//
// An element that is final at any member stays as it is: it goes along the ring to those that lack it, to each of them once, from
// its predecessor, which holds it or has just received it. An element that is final nowhere is reduced again: every member still has
// its own value of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "collective/ring_plan.h"
#include "wire/repair.h"

namespace pccl::collective {

/// Elements that are final at some members and lacking at others.
struct Lacking {
    Span span;
    std::uint32_t members = 0;  ///< that took part in them
    std::vector<bool> held;     ///< by rank
};

struct RepairPlan {
    std::vector<Span> open;         ///< final nowhere
    std::vector<Lacking> lacking;   ///< each of at most `max_chunk_elements`
};

/// `held`: what is final at each rank, of `count` elements. Where two disagree on who took part, the lower rank's word stands.
/// Ranges beyond `count` are cut off; each list must be well_formed().
RepairPlan plan_repair(std::size_t count, const std::vector<wire::FinalRanges> &held, std::size_t max_chunk_elements);

/// In ascending order, those that touch and have as many members joined. Where two overlap, the first one stands.
wire::FinalRanges joined(wire::FinalRanges ranges);

/// How few took part in any element, and in how many elements so few.
struct Participation {
    std::uint32_t fewest = 0;
    std::uint64_t elements = 0;
};
Participation participation(const wire::FinalRanges &ranges);

}  // namespace pccl::collective
