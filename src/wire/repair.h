// Data about an all-reduce that continues after a loss (pcclLossPolicyRepair): the elements that are final at each member. Lists
// of ranges are in ascending order and disjoint.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "op/final_ranges.h"
#include "wire/codec.h"
#include "wire/limits.h"

namespace pccl::wire {

template <class V> void visit(V &v, op::FinalRange &m) { v(m.begin, m.count, m.members); }
using op::FinalRanges;

/// A member's call that a freeze interrupted and that can continue.
struct CarriedOp {
    Tag tag;
    std::uint32_t seq = 0;  ///< its number in the epoch that ends
    FinalRanges final;      ///< elements that are final at this member
};
template <class V> void visit(V &v, CarriedOp &m) { v(m.tag, m.seq, bounded(m.final, kMaxFinalRanges)); }

struct Holding {
    PeerId member;
    FinalRanges final;
    friend bool operator==(const Holding &, const Holding &) = default;
};
template <class V> void visit(V &v, Holding &m) { v(m.member, bounded(m.final, kMaxFinalRanges)); }

/// A call that continues in the new epoch, as the first one with its tag.
struct RepairedOp {
    Tag tag;
    std::uint32_t seq = 0;          ///< its number in the epoch that ended
    std::vector<Holding> holdings;  ///< the members that hold final elements
    friend bool operator==(const RepairedOp &, const RepairedOp &) = default;
};
template <class V> void visit(V &v, RepairedOp &m) { v(m.tag, m.seq, bounded(m.holdings, kMaxPeers)); }

/// True for ranges that are ascending, disjoint and not empty, do not overflow, and name at least one contributing member each.
inline bool well_formed(const FinalRanges &ranges) {
    std::uint64_t end = 0;
    for (const auto &range : ranges) {
        if (range.begin < end || range.count == 0 || range.members == 0 || range.members > kMaxPeers) return false;
        if (range.count > UINT64_MAX - range.begin) return false;
        end = range.begin + range.count;
    }
    return true;
}

}  // namespace pccl::wire
