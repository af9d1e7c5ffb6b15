// Who sends which chunk to whom where each member works on its own block, and how much a member may hold. Pure arithmetic, the same at
// every member.
//
// The buffer is cut in one block per member (collective/blocks.h) and each block in chunks. Every member sends its contribution to a chunk to the block's owner,
// who combines them and sends the final chunk to every member. Contributions to a chunk are combined in the order of the ring, starting
// behind the owner, who comes last: one order, fixed by the view, and that of the ring algorithm.
//
// An owner holds contributions until the last has come. So it grants the others a window of chunks, beginning with the first it still holds
// anything of: what it holds is bounded, however far apart the members are.
//
// A reduce-scatter ends when the owners have combined; an all-gather begins there.
#pragma once

#include <algorithm>
#include <cstddef>

#include "collective/ring_plan.h"

namespace pccl::collective {

class OneHopPlan {
public:
    /// Whole blocks of every quantization.
    static constexpr std::size_t kUnit = kernel::kMaxScaleBlock;
    static_assert(kUnit % kernel::kQuantBlock == 0);
    /// Bytes of chunks that one member holds of one operation, at most.
    static constexpr std::size_t kMaxHeld = std::size_t{16} << 20;
    /// Chunks that a window should have, so that they are on their way while others are combined.
    static constexpr std::size_t kWindow = 8;
    /// A block is cut in about this many chunks where it is large enough: each waits for all contributions to it, from paths that differ.
    static constexpr std::size_t kPipeline = 8;

    OneHopPlan(wire::Collective collective, Blocks blocks, std::size_t element_bytes)
        : collective_(collective), blocks_(std::move(blocks)), members_(blocks_.members()) {
        const std::size_t block_bytes = units(blocks_.count()) * kUnit / members_ * element_bytes;
        const std::size_t most = std::min(RingPlan::kMaxChunk, kMaxHeld / (kWindow * members_));
        const std::size_t wanted = std::clamp(block_bytes / kPipeline, std::min(RingPlan::kMinChunk, most), most);
        chunk_units_ = std::max<std::size_t>(1, wanted / (kUnit * element_bytes));
    }

    /// Of an all-reduce, whose blocks have boundaries at multiples of kUnit.
    OneHopPlan(std::size_t count, std::size_t element_bytes, std::size_t members)
        : OneHopPlan(wire::Collective::all_reduce, {count, members, kUnit}, element_bytes) {}

    bool reduces() const { return collective_ != wire::Collective::all_gather; }
    bool gathers() const { return collective_ != wire::Collective::reduce_scatter; }

    /// The elements of a block. May be empty.
    Span block(std::size_t b) const { return blocks_.of(b); }
    std::size_t chunks(std::size_t b) const { return (units(block(b).count) + chunk_units_ - 1) / chunk_units_; }
    /// Chunk `i` of block `b`; i < chunks(b). It begins at a multiple of kUnit, counted from where the block does.
    Span chunk(std::size_t b, std::size_t i) const {
        const Span whole = block(b);
        const std::size_t begin = i * chunk_units_ * kUnit;
        return {whole.begin + begin, std::min(chunk_units_ * kUnit, whole.count - begin)};
    }
    std::size_t max_chunk_elements() const { return std::min(blocks_.count(), chunk_units_ * kUnit); }

    /// Chunks of a block on their way at the same time, where one takes at most `chunk_bytes` on the wire.
    std::size_t window(std::size_t chunk_bytes) const { return std::max<std::size_t>(1, kMaxHeld / (members_ * chunk_bytes)); }

    /// The rank whose contribution to block `b` is the i-th to be combined; the owner's is the last.
    std::size_t contributor(std::size_t b, std::size_t i) const { return (b + 1 + i) % members_; }

private:
    static std::size_t units(std::size_t elements) { return elements / kUnit + (elements % kUnit != 0); }

    wire::Collective collective_;
    Blocks blocks_;
    std::size_t members_;
    std::size_t chunk_units_ = 1;
};

}  // namespace pccl::collective
