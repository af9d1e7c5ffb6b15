// Who sends which chunk to whom in a one-hop all-reduce, and how much a member may hold of it. Pure arithmetic, the same at every member.
//
// The buffer is cut in one block per member and each block in chunks. Every member sends its contribution to a chunk to the block's owner,
// who combines them and sends the final chunk to every member. Contributions to a chunk are combined in the order of the ring, starting
// behind the owner, who comes last: one order, fixed by the view, and that of the ring algorithm.
//
// An owner holds contributions until the last has come. So it grants the others a window of chunks, beginning with the first it still holds
// anything of: what it holds is bounded, however far apart the members are.
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

    OneHopPlan(std::size_t count, std::size_t element_bytes, std::size_t members) : count_(count), members_(members) {
        const std::size_t block_bytes = units(count) * kUnit / members * element_bytes;
        const std::size_t most = std::min(RingPlan::kMaxChunk, kMaxHeld / (kWindow * members));
        const std::size_t wanted = std::clamp(block_bytes / RingPlan::kPipeline, std::min(RingPlan::kMinChunk, most), most);
        chunk_units_ = std::max<std::size_t>(1, wanted / (kUnit * element_bytes));
    }

    /// The elements of a block; boundaries are multiples of kUnit. May be empty.
    Span block(std::size_t b) const {
        const std::size_t total = units(count_);
        const std::size_t begin = std::min(split(total, b) * kUnit, count_);
        return {begin, std::min(split(total, b + 1) * kUnit, count_) - begin};
    }
    std::size_t chunks(std::size_t b) const { return (units(block(b).count) + chunk_units_ - 1) / chunk_units_; }
    /// Chunk `i` of block `b`; i < chunks(b).
    Span chunk(std::size_t b, std::size_t i) const {
        const Span whole = block(b);
        const std::size_t begin = i * chunk_units_ * kUnit;
        return {whole.begin + begin, std::min(chunk_units_ * kUnit, whole.count - begin)};
    }
    std::size_t max_chunk_elements() const { return std::min(count_, chunk_units_ * kUnit); }

    /// Chunks of a block on their way at the same time, where one takes at most `chunk_bytes` on the wire.
    std::size_t window(std::size_t chunk_bytes) const { return std::max<std::size_t>(1, kMaxHeld / (members_ * chunk_bytes)); }

    /// The rank whose contribution to block `b` is the i-th to be combined; the owner's is the last.
    std::size_t contributor(std::size_t b, std::size_t i) const { return (b + 1 + i) % members_; }

private:
    static std::size_t units(std::size_t elements) { return elements / kUnit + (elements % kUnit != 0); }
    /// total * b / members without overflow.
    std::size_t split(std::size_t total, std::size_t b) const {
        return total / members_ * b + total % members_ * b / members_;
    }

    std::size_t count_;
    std::size_t members_;
    std::size_t chunk_units_ = 1;
};

}  // namespace pccl::collective
