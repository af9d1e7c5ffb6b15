// The plan of the two-hop algorithm: which chunk is sent to which member, and how many bytes a member may hold. Pure arithmetic:
// every member computes the same plan.
//
// The buffer is cut into one block per member (collective/blocks.h) and each block into chunks. Every member sends its
// contribution to a chunk to the owner of the block. The owner combines the contributions and sends the final chunk to every
// member. It combines them in the order of the ring, starting behind the owner and ending with the owner. The view fixes this
// order, and the ring algorithm uses the same one.
//
// An owner holds contributions until the last one has arrived. So it grants the other members a window of chunks, which begins
// with the first chunk that it still holds. The window bounds the memory of an owner for any distance between fast and slow
// members.
//
// A reduce-scatter ends when the owners have combined. An all-gather begins there.
#pragma once

#include <algorithm>
#include <cstddef>

#include "collective/ring_plan.h"

namespace pccl::collective {

class OneHopPlan {
public:
    /// A multiple of the block size of every quantization.
    static constexpr std::size_t kUnit = op::kMaxScaleBlock;
    static_assert(kUnit % op::kQuantBlock == 0);
    /// The largest number of bytes that a member holds for one operation.
    static constexpr std::size_t kMaxHeld = std::size_t{16} << 20;
    /// The number of chunks that a window should have, so that chunks are in flight while others are combined.
    static constexpr std::size_t kWindow = 8;
    /// The number of chunks that a large block is cut into. Each chunk waits for contributions over paths of different speed.
    static constexpr std::size_t kPipeline = 8;

    OneHopPlan(op::Collective collective, Blocks blocks, std::size_t element_bytes)
        : phases_(op::row_of(collective).phases), blocks_(std::move(blocks)), members_(blocks_.members()) {
        const std::size_t block_bytes = units(blocks_.count()) * kUnit / members_ * element_bytes;
        const std::size_t most = std::min(RingPlan::kMaxChunk, kMaxHeld / (kWindow * members_));
        const std::size_t wanted = std::clamp(block_bytes / kPipeline, std::min(RingPlan::kMinChunk, most), most);
        chunk_units_ = std::max<std::size_t>(1, wanted / (kUnit * element_bytes));
    }

    /// The plan of an all-reduce. Block boundaries are multiples of kUnit.
    OneHopPlan(std::size_t count, std::size_t element_bytes, std::size_t members)
        : OneHopPlan(op::Collective::all_reduce, {count, members, kUnit}, element_bytes) {}

    op::Phases phases() const { return phases_; }
    bool has(op::Phase phase) const { return phases_.contains(phase); }

    /// Returns the elements of block `b`. They can be empty.
    Span block(std::size_t b) const { return blocks_.of(b); }
    std::size_t chunks(std::size_t b) const { return (units(block(b).count) + chunk_units_ - 1) / chunk_units_; }
    /// Returns chunk `i` of block `b`; `i` must be less than chunks(b). It begins a multiple of kUnit behind the beginning of the
    /// block.
    Span chunk(std::size_t b, std::size_t i) const {
        const Span whole = block(b);
        const std::size_t begin = i * chunk_units_ * kUnit;
        return {whole.begin + begin, std::min(chunk_units_ * kUnit, whole.count - begin)};
    }
    std::size_t max_chunk_elements() const { return std::min(blocks_.count(), chunk_units_ * kUnit); }

    /// Returns how many chunks of a block may be in flight if a chunk takes at most `chunk_bytes` on the wire.
    std::size_t window(std::size_t chunk_bytes) const { return std::max<std::size_t>(1, kMaxHeld / (members_ * chunk_bytes)); }

    /// Returns the rank whose contribution to block `b` is combined as the i-th. The owner's is the last.
    std::size_t contributor(std::size_t b, std::size_t i) const { return (b + 1 + i) % members_; }

private:
    static std::size_t units(std::size_t elements) { return elements / kUnit + (elements % kUnit != 0); }

    op::Phases phases_;
    Blocks blocks_;
    std::size_t members_;
    std::size_t chunk_units_ = 1;
};

}  // namespace pccl::collective
