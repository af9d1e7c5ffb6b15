// Who sends which chunk when in a ring all-reduce. Pure arithmetic, the same at every member.
//
// The buffer is cut in one block per member and each block in chunks. Block b starts at rank b+1 and travels the ring, gathering each
// member's contribution (reduce-scatter, hops 0 to N-2), until it is complete at its owner, rank b; from there the final chunk travels on
// to all others (all-gather, hops 0 to N-2). There is no barrier: a chunk moves as soon as it has arrived.
// So every element is summed in ring order, starting behind its owner: one order, fixed by the view.
//
// A repair (collective/repair_plan.h) goes round the ring with a part of the buffer: some ranges of elements, which are cut likewise.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/types.h"

namespace pccl::collective {

/// A range of elements.
struct Span {
    std::size_t begin = 0;
    std::size_t count = 0;
};

class RingPlan {
public:
    /// Chunks hold at most this many bytes of input elements: two of them stay in a second-level cache.
    static constexpr std::size_t kMaxChunk = std::size_t{512} << 10;
    static constexpr std::size_t kMinChunk = std::size_t{32} << 10;
    /// A block is cut in about this many chunks where it is large enough, so that all links are busy at once.
    static constexpr std::size_t kPipeline = 8;

    /// `max_chunk`: at least kMinChunk.
    RingPlan(std::size_t count, std::size_t element_bytes, std::size_t members, std::size_t rank, std::size_t max_chunk = kMaxChunk)
        : count_(count), members_(members), rank_(rank) {
        const std::size_t block_bytes = units(count) * kernel::kQuantBlock / members * element_bytes;
        const std::size_t wanted = std::clamp(block_bytes / kPipeline, kMinChunk, max_chunk);
        chunk_units_ = std::max<std::size_t>(1, wanted / (kernel::kQuantBlock * element_bytes));
    }

    /// Of these elements alone, in ascending order. No chunk spans two ranges; a block may hold parts of several.
    RingPlan(const std::vector<Span> &ranges, std::size_t element_bytes, std::size_t members, std::size_t rank,
             std::size_t max_chunk = kMaxChunk)
        : RingPlan(sum(ranges), element_bytes, members, rank, max_chunk) {
        std::size_t before = 0, owner = 0;
        first_cut_.assign(members + 1, 0);
        for (const Span &range : ranges) {
            for (std::size_t at = 0; at < range.count;) {
                const Span cut{range.begin + at, std::min(chunk_units_ * kernel::kQuantBlock, range.count - at)};
                while (owner + 1 < members && split(count_, owner + 1) <= before) first_cut_[++owner] = cuts_.size();
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
    Span block(std::size_t b) const {
        const std::size_t total = units(count_);
        const std::size_t first = split(total, b), last = split(total, b + 1);
        const std::size_t begin = std::min(first * kernel::kQuantBlock, count_);
        return {begin, std::min(last * kernel::kQuantBlock, count_) - begin};
    }
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
    std::size_t max_chunk_elements() const { return std::min(count_, chunk_units_ * kernel::kQuantBlock); }

    /// The block whose journey begins here.
    std::size_t first_block() const { return predecessor(); }
    /// The block that is completed here.
    std::size_t own_block() const { return rank_; }
    /// Hops a partial result of block `b` has behind it when it arrives here: 1 to N-1. N-1 at the owner.
    std::size_t reduce_arrival(std::size_t b) const { return (rank_ + 2 * members_ - b - 1) % members_; }
    /// Hops a final chunk of block `b` has behind it when it arrives here: 1 to N-1; 0 at the owner.
    std::size_t gather_arrival(std::size_t b) const { return (rank_ + members_ - b) % members_; }
    /// Frames that are ready go in the order of their turns: chunk i of every step before chunk i + 1 of the step before it. So no member
    /// runs ahead with one block while its neighbours wait for another, and all links stay busy to the end.
    std::size_t turn(bool final, std::size_t hop, std::size_t chunk) const { return (final ? members_ - 1 : 0) + hop + chunk; }
    bool forwards_gather(std::size_t b) const { return gather_arrival(b) < members_ - 1; }

private:
    static std::size_t units(std::size_t elements) { return (elements + kernel::kQuantBlock - 1) / kernel::kQuantBlock; }
    /// total * b / members without overflow.
    std::size_t split(std::size_t total, std::size_t b) const {
        return total / members_ * b + total % members_ * b / members_;
    }

    static std::size_t sum(const std::vector<Span> &ranges) {
        std::size_t elements = 0;
        for (const Span &range : ranges) elements += range.count;
        return elements;
    }

    std::size_t count_;
    std::size_t members_;
    std::size_t rank_;
    std::size_t chunk_units_ = 1;
    std::vector<Span> cuts_;              ///< of ranges: all chunks, block by block
    std::vector<std::size_t> first_cut_;  ///< of ranges: per block, and one past the last; else empty
};

}  // namespace pccl::collective
