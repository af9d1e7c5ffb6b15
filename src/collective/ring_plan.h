// The plan of the ring algorithm: which member sends which chunk, and in which order. Pure arithmetic: every member computes the
// same.
//
// The buffer is cut into one block per member (collective/blocks.h) and each block into chunks. Block b starts at rank b+1 and
// moves around the ring, where each member adds its contribution (reduce-scatter, hops 0 to N-2), until it is complete at its
// owner, rank b. From there the final chunk moves to all other members (all-gather, hops 0 to N-2). There is no barrier: a chunk
// moves on as soon as it has arrived. So every element is summed in the order of the ring, starting behind its owner. The view
// fixes this order. An all-reduce is both phases. A reduce-scatter ends at the owners, and an all-gather begins there.
//
// A repair (collective/repair_plan.h) sends only some ranges of elements around the ring. They are cut into chunks in the same
// way.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "collective/blocks.h"
#include "op/quantization.h"

namespace pccl::collective {

class RingPlan {
public:
    /// The largest number of bytes of input elements in a chunk: two chunks fit a second-level cache.
    static constexpr std::size_t kMaxChunk = std::size_t{512} << 10;
    static constexpr std::size_t kMinChunk = std::size_t{32} << 10;
    /// The number of chunks that a large block is cut into, so that all links are busy at once. More chunks cost more than they
    /// gain (docs/internals/performance.md).
    static constexpr std::size_t kPipeline = 4;

    /// The boundaries of `blocks` are multiples of kQuantBlock elements. `max_chunk` is at least kMinChunk.
    RingPlan(op::Collective collective, Blocks blocks, std::size_t element_bytes, std::size_t rank,
             std::size_t max_chunk = kMaxChunk)
        : phases_(op::row_of(collective).phases), blocks_(std::move(blocks)), members_(blocks_.members()), rank_(rank) {
        const std::size_t block_bytes = units(blocks_.count()) * op::kQuantBlock / members_ * element_bytes;
        const std::size_t wanted = std::clamp(block_bytes / kPipeline, kMinChunk, max_chunk);
        chunk_units_ = std::max<std::size_t>(1, wanted / (op::kQuantBlock * element_bytes));
    }

    /// The plan of an all-reduce.
    RingPlan(std::size_t count, std::size_t element_bytes, std::size_t members, std::size_t rank,
             std::size_t max_chunk = kMaxChunk)
        : RingPlan(op::Collective::all_reduce, {count, members, op::kQuantBlock}, element_bytes, rank, max_chunk) {}

    /// The plan of an all-reduce over these ranges only, which are in ascending order. No chunk spans two ranges. A block can
    /// hold parts of several ranges.
    RingPlan(const std::vector<Span> &ranges, std::size_t element_bytes, std::size_t members, std::size_t rank,
             std::size_t max_chunk = kMaxChunk)
        : RingPlan(sum(ranges), element_bytes, members, rank, max_chunk) {
        std::size_t before = 0, owner = 0;
        first_cut_.assign(members + 1, 0);
        for (const Span &range : ranges) {
            for (std::size_t at = 0; at < range.count;) {
                const Span cut{range.begin + at, std::min(chunk_units_ * op::kQuantBlock, range.count - at)};
                while (owner + 1 < members && Blocks::split(blocks_.count(), owner + 1, members) <= before)
                    first_cut_[++owner] = cuts_.size();
                cuts_.push_back(cut);
                before += cut.count;
                at += cut.count;
            }
        }
        while (owner < members)
            first_cut_[++owner] = cuts_.size();
    }

    std::size_t members() const { return members_; }
    std::size_t rank() const { return rank_; }
    std::size_t successor() const { return (rank_ + 1) % members_; }
    std::size_t predecessor() const { return (rank_ + members_ - 1) % members_; }

    /// Returns the elements of block `b` in a plan of a whole buffer. They can be empty. Boundaries are multiples of kQuantBlock.
    Span block(std::size_t b) const { return blocks_.of(b); }
    std::size_t chunks(std::size_t b) const {
        if (!first_cut_.empty()) return first_cut_[b + 1] - first_cut_[b];
        return (units(block(b).count) + chunk_units_ - 1) / chunk_units_;
    }
    /// Returns chunk `i` of block `b`; `i` must be less than chunks(b).
    Span chunk(std::size_t b, std::size_t i) const {
        if (!first_cut_.empty()) return cuts_[first_cut_[b] + i];
        const Span whole = block(b);
        const std::size_t begin = i * chunk_units_ * op::kQuantBlock;
        return {whole.begin + begin, std::min(chunk_units_ * op::kQuantBlock, whole.count - begin)};
    }
    std::size_t max_chunk_elements() const { return std::min(blocks_.count(), chunk_units_ * op::kQuantBlock); }

    op::Phases phases() const { return phases_; }
    bool has(op::Phase phase) const { return phases_.contains(phase); }
    /// The block that this rank sends first.
    std::size_t first_block() const { return has(op::Phase::reduce_to_owner) ? predecessor() : own_block(); }
    /// The block that is completed at this rank.
    std::size_t own_block() const { return rank_; }
    /// The number of hops that a partial result of block `b` has made when it arrives at this rank: 1 to N-1, and N-1 at the
    /// owner.
    std::size_t reduce_arrival(std::size_t b) const { return (rank_ + 2 * members_ - b - 1) % members_; }
    /// The number of hops that a final chunk of block `b` has made when it arrives at this rank: 1 to N-1, and 0 at the owner.
    std::size_t gather_arrival(std::size_t b) const { return (rank_ + members_ - b) % members_; }
    /// Ready frames are sent in ascending order of this number: chunk i of every step precedes chunk i + `pipeline_depth` of the
    /// step before it. So no member sends much of one block while its neighbours wait for another block. `pipeline_depth` is at
    /// least 1. It should be the number of chunks in flight at once: then the chunks that a step depends on have arrived when the
    /// step begins, and all links stay busy to the end. With a smaller value, each step waits at its end for chunks that depend
    /// on the last chunks of the first step: one round trip for every two steps.
    std::size_t send_priority(op::Phase phase, std::size_t hop, std::size_t chunk, std::size_t pipeline_depth) const {
        const std::size_t step = (phase == op::Phase::gather_from_owner ? members_ - 1 : 0) + hop;
        return step * pipeline_depth + chunk;
    }
    bool forwards_gather(std::size_t b) const { return has(op::Phase::gather_from_owner) && gather_arrival(b) < members_ - 1; }
    /// The phase that makes block `b` final at this rank.
    op::Phase finishes_in(std::size_t b) const {
        return b == own_block() ? op::Phase::reduce_to_owner : op::Phase::gather_from_owner;
    }
    /// The number of chunks that become final at this rank because of received chunks.
    std::size_t finals_due() const {
        std::size_t due = 0;
        for (std::size_t b = 0; b < members_; ++b)
            due += has(finishes_in(b)) ? chunks(b) : 0;
        return due;
    }

private:
    static std::size_t units(std::size_t elements) { return (elements + op::kQuantBlock - 1) / op::kQuantBlock; }
    static std::size_t sum(const std::vector<Span> &ranges) {
        std::size_t elements = 0;
        for (const Span &range : ranges)
            elements += range.count;
        return elements;
    }

    op::Phases phases_;
    Blocks blocks_;
    std::size_t members_;
    std::size_t rank_;
    std::size_t chunk_units_ = 1;
    std::vector<Span> cuts_;  ///< all chunks in the order of blocks, in a plan over ranges
    std::vector<std::size_t>
        first_cut_;  ///< in a plan over ranges: the first entry of `cuts_` for each block, and one past the last block
};

}  // namespace pccl::collective
