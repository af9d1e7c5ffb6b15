// A member's shard: its part of a buffer that is divided among all members, and an identifier of these members. Any thread: a
// pure function.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "collective/blocks.h"
#include "kernel/hash.h"

namespace pccl::peer {

struct Shard {
    op::Span span;
    std::uint64_t membership = 0;  ///< identifies the set of members, independent of the order of the ring; never 0
    std::uint32_t members = 0;
    std::uint32_t place = 0;  ///< position of this member in the order of ids
};

/// Returns the shard of `self`, which must be in `ring`, of `count` elements.
inline Shard shard_of(std::size_t count, const std::vector<PeerId> &ring, PeerId self) {
    const auto rank = static_cast<std::size_t>(std::ranges::find(ring, self) - ring.begin());
    const auto places = collective::places_by_id(ring);
    std::vector<std::uint64_t> ids(ring.size());
    for (std::size_t r = 0; r < ring.size(); ++r)
        ids[places[r]] = ring[r].value;
    const std::uint64_t membership = kernel::checksum(ids.data(), ids.size() * sizeof ids[0]);
    return {collective::Blocks(count, ring.size(), collective::kShardUnit, places).of(rank), membership != 0 ? membership : 1,
            static_cast<std::uint32_t>(ring.size()), static_cast<std::uint32_t>(places[rank])};
}

}  // namespace pccl::peer
