// Divides a buffer into one block per member. Block boundaries are multiples of a unit of elements. Pure arithmetic: every member
// computes the same division.
//
// The blocks of an all-reduce are in the order of the ring. A member that keeps its block between operations calls it its
// *shard*; shards are in the order of the members' ids, so that a shard moves only when the members change, and not when the ring
// changes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "op/operation_spec.h"
#include "op/span.h"

namespace pccl::collective {

using op::Span;

class Blocks {
public:
    /// `places` maps a rank to the position of its block in the buffer. An empty vector means the order of ranks.
    Blocks(std::size_t count, std::size_t members, std::size_t unit, std::vector<std::size_t> places = {})
        : count_(count), members_(members), unit_(unit), places_(std::move(places)) {}

    std::size_t count() const { return count_; }
    std::size_t members() const { return members_; }
    /// Returns the block of the member with this rank. It can be empty.
    Span of(std::size_t rank) const {
        const std::size_t place = places_.empty() ? rank : places_[rank], units = count_ / unit_ + (count_ % unit_ != 0);
        const std::size_t begin = std::min(split(units, place, members_) * unit_, count_);
        return {begin, std::min(split(units, place + 1, members_) * unit_, count_) - begin};
    }

    /// Returns total * part / parts without overflow.
    static std::size_t split(std::size_t total, std::size_t part, std::size_t parts) {
        return total / parts * part + total % parts * part / parts;
    }

private:
    std::size_t count_;
    std::size_t members_;
    std::size_t unit_;
    std::vector<std::size_t> places_;
};

/// Shard boundaries are multiples of this number of elements for every algorithm.
inline constexpr std::size_t kShardUnit = op::kQuantBlock;

/// Maps the rank in the ring to the position in the order of ids.
inline std::vector<std::size_t> places_by_id(const std::vector<PeerId> &ring) {
    std::vector<std::size_t> places;
    for (const PeerId member : ring) {
        places.push_back(static_cast<std::size_t>(std::ranges::count_if(ring, [&](PeerId other) { return other < member; })));
    }
    return places;
}

/// Divides `count` elements for `collective`. `unit` is the unit of the blocks if no argument of the collective is a shard.
inline Blocks blocks_of(op::Collective collective, std::size_t count, const std::vector<PeerId> &ring, std::size_t unit) {
    if (!op::is_sharded(collective)) return {count, ring.size(), unit};
    return {count, ring.size(), kShardUnit, places_by_id(ring)};
}

}  // namespace pccl::collective
