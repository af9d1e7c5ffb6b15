// What members and master tell each other of an all-reduce that goes on after a loss (pcclLossPolicyRepair): which elements are final
// where. Lists of ranges in ascending order, apart from one another.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "op/final_ranges.h"
#include "wire/codec.h"
#include "wire/limits.h"

namespace pccl::wire {

template <class V> void visit(V &v, op::FinalRange &m) {
    v(m.begin);
    v(m.count);
    v(m.members);
}
using op::FinalRanges;

/// A member's call that a freeze interrupted and that is to go on.
struct CarriedOp {
    Tag tag;
    std::uint32_t seq = 0;  ///< in the epoch that ends
    FinalRanges final;      ///< here
};
template <class V> void visit(V &v, CarriedOp &m) {
    v(m.tag);
    v(m.seq);
    v(bounded(m.final, kMaxFinalRanges));
}

struct Holding {
    PeerId member;
    FinalRanges final;
    friend bool operator==(const Holding &, const Holding &) = default;
};
template <class V> void visit(V &v, Holding &m) {
    v(m.member);
    v(bounded(m.final, kMaxFinalRanges));
}

/// A call that goes on in the new epoch, as its first with the tag.
struct RepairedOp {
    Tag tag;
    std::uint32_t seq = 0;          ///< in the epoch that ended
    std::vector<Holding> holdings;  ///< of the members that hold something final
    friend bool operator==(const RepairedOp &, const RepairedOp &) = default;
};
template <class V> void visit(V &v, RepairedOp &m) {
    v(m.tag);
    v(m.seq);
    v(bounded(m.holdings, kMaxPeers));
}

/// Ascending, apart, none empty, none beyond what can be counted, each with somebody who took part.
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
