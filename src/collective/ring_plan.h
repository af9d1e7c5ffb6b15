// Who sends which chunk when in a ring. Pure arithmetic, the same at every member.
//
// The buffer is cut in one block per member (collective/blocks.h) and each block in chunks. Block b starts at rank b+1 and travels the ring, gathering each
// member's contribution (reduce-scatter, hops 0 to N-2), until it is complete at its owner, rank b; from there the final chunk travels on
// to all others (all-gather, hops 0 to N-2). There is no barrier: a chunk moves as soon as it has arrived.
// So every element is summed in ring order, starting behind its owner: one order, fixed by the view.
// An operation is both journeys or one of them: a reduce-scatter ends at the owners, an all-gather begins there.
//
// A repair (collective/repair_plan.h) goes round the ring with a part of the buffer: some ranges of elements, which are cut likewise.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "collective/blocks.h"
#include "kernel/types.h"

namespace pccl::collective {

class RingPlan {
public:
    /// Chunks hold at most this many bytes of input elements: two of them stay in a second-level cache.
    static constexpr std::size_t kMaxChunk = std::size_t{512} << 10;
    static constexpr std::size_t kMinChunk = std::size_t{32} << 10;
    /// A block is cut in about this many chunks where it is large enough, so that all links are busy at once; more of them cost more
    /// than they gain (docs/performance.md).
    static constexpr std::size_t kPipeline = 4;

    /// `blocks`: at boundaries of kQuantBlock elements. `max_chunk`: at least kMinChunk.
    RingPlan(wire::Collective collective, Blocks blocks, std::size_t element_bytes, std::size_t rank, std::size_t max_chunk = kMaxChunk)
        : collective_(collective), blocks_(std::move(blocks)), members_(blocks_.members()), rank_(rank) {
        const std::size_t block_bytes = units(blocks_.count()) * kernel::kQuantBlock / members_ * element_bytes;
        const std::size_t wanted = std::clamp(block_bytes / kPipeline, kMinChunk, max_chunk);
        chunk_units_ = std::max<std::size_t>(1, wanted / (kernel::kQuantBlock * element_bytes));
    }

    /// Of an all-reduce.
    RingPlan(std::size_t count, std::size_t element_bytes, std::size_t members, std::size_t rank, std::size_t max_chunk = kMaxChunk)
        : RingPlan(wire::Collective::all_reduce, {count, members, kernel::kQuantBlock}, element_bytes, rank, max_chunk) {}

    /// Of these elements alone, in ascending order. No chunk spans two ranges; a block may hold parts of several.
    RingPlan(const std::vector<Span> &ranges, std::size_t element_bytes, std::size_t members, std::size_t rank,
             std::size_t max_chunk = kMaxChunk)
        : RingPlan(sum(ranges), element_bytes, members, rank, max_chunk) {
        std::size_t before = 0, owner = 0;
        first_cut_.assign(members + 1, 0);
        for (const Span &range : ranges) {
            for (std::size_t at = 0; at < range.count;) {
                const Span cut{range.begin + at, std::min(chunk_units_ * kernel::kQuantBlock, range.count - at)};
                while (owner + 1 < members && Blocks::split(blocks_.count(), owner + 1, members) <= before) first_cut_[++owner] = cuts_.size();
                cuts_.push_back(cut);
                before += cut.count;
                at += cut.count;
            }
        }
        while (owner < members) first_cut_[++owner] = cuts_.size();
    }

    std::size_t members() const { return members_; }
    std::size_t rank() const { return rank_; }
    std::size_t successor() const { return (rank_ + 1) % members_; }
    std::size_t predecessor() const { return (rank_ + members_ - 1) % members_; }

    /// The elements of a block, where the plan is of a whole buffer; boundaries are multiples of kQuantBlock. May be empty.
    Span block(std::size_t b) const { return blocks_.of(b); }
    std::size_t chunks(std::size_t b) const {
        if (!first_cut_.empty()) return first_cut_[b + 1] - first_cut_[b];
        return (units(block(b).count) + chunk_units_ - 1) / chunk_units_;
    }
    /// Chunk `i` of block `b`; i < chunks(b).
    Span chunk(std::size_t b, std::size_t i) const {
        if (!first_cut_.empty()) return cuts_[first_cut_[b] + i];
        const Span whole = block(b);
        const std::size_t begin = i * chunk_units_ * kernel::kQuantBlock;
        return {whole.begin + begin, std::min(chunk_units_ * kernel::kQuantBlock, whole.count - begin)};
    }
    std::size_t max_chunk_elements() const { return std::min(blocks_.count(), chunk_units_ * kernel::kQuantBlock); }

    bool reduces() const { return collective_ != wire::Collective::all_gather; }
    bool gathers() const { return collective_ != wire::Collective::reduce_scatter; }
    /// The block whose journey begins here.
    std::size_t first_block() const { return reduces() ? predecessor() : own_block(); }
    /// The block that is completed here.
    std::size_t own_block() const { return rank_; }
    /// Hops a partial result of block `b` has behind it when it arrives here: 1 to N-1. N-1 at the owner.
    std::size_t reduce_arrival(std::size_t b) const { return (rank_ + 2 * members_ - b - 1) % members_; }
    /// Hops a final chunk of block `b` has behind it when it arrives here: 1 to N-1; 0 at the owner.
    std::size_t gather_arrival(std::size_t b) const { return (rank_ + members_ - b) % members_; }
    /// Frames that are ready go in the order of their turns: chunk i of every step before chunk i + `apart` of the step before it. So no
    /// member runs ahead with one block while its neighbours wait for another. `apart`, at least 1: as many chunks as are under way at once.
    /// Then what a step needs to go on has arrived when its turn comes, and all links stay busy to the end; with fewer, each waits at the
    /// end for chunks that the last ones of the first step make possible, one round trip later for every two steps.
    std::size_t turn(bool final, std::size_t hop, std::size_t chunk, std::size_t apart) const {
        return ((final ? members_ - 1 : 0) + hop) * apart + chunk;
    }
    bool forwards_gather(std::size_t b) const { return gathers() && gather_arrival(b) < members_ - 1; }
    /// Chunks that become final here by what comes from others.
    std::size_t finals_due() const {
        std::size_t due = 0;
        for (std::size_t b = 0; b < members_; ++b) due += (b == own_block() ? reduces() : gathers()) ? chunks(b) : 0;
        return due;
    }

private:
    static std::size_t units(std::size_t elements) { return (elements + kernel::kQuantBlock - 1) / kernel::kQuantBlock; }
    static std::size_t sum(const std::vector<Span> &ranges) {
        std::size_t elements = 0;
        for (const Span &range : ranges) elements += range.count;
        return elements;
    }

    wire::Collective collective_;
    Blocks blocks_;
    std::size_t members_;
    std::size_t rank_;
    std::size_t chunk_units_ = 1;
    std::vector<Span> cuts_;              ///< of ranges: all chunks, block by block
    std::vector<std::size_t> first_cut_;  ///< of ranges: per block, and one past the last; else empty
};

}  // namespace pccl::collective
