// A member's part of a buffer that all members divide among them, and of which membership it is so. Any thread: a pure function.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "collective/blocks.h"
#include "kernel/hash.h"

namespace pccl::peer {

struct Shard {
    op::Span span;
    std::uint64_t membership = 0;  ///< the same for the same members, whatever the order of the ring; never 0
    std::uint32_t members = 0;
    std::uint32_t place = 0;  ///< of this one among them, in the order of ids
};

/// `self` is in `ring`.
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
