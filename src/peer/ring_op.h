// One ring operation at one member. The plan is in collective/ring_plan.h. I/O thread only.
//
// Memory. The caller's send buffer is only read. A received partial result is combined with this member's input in the scratch
// buffer that it arrived in, while it is in cache, and is sent on from there. When scratch memory is crowded, because the
// successor is slow or has not posted the operation, a partial result is stored in the receive buffer instead, at the place that
// its final value will take. So memory stays bounded and this member never stops reading. Quantized and widened partial results
// do not fit there, and a reduce-scatter has no room for other members' blocks: these keep scratch memory while the successor is
// behind. The owner of a block finishes each chunk once, and final chunks are received directly into the receive buffer. In
// place, overwritten input is saved first.
//
// Own chunks of an all-gather are written to the receive buffer when they are sent. They count as received from the beginning,
// because every other member depends on their being sent.
//
// Repair. With LossPolicy::repair, a chunk becomes final in one step or not at all. In place, it is received into scratch memory
// first and no input is saved. After a loss, the ring carries two kinds of chunks: chunks that are reduced again, in blocks as
// before, and final chunks that some members miss. The latter form one additional block, and each is passed on until no further
// member misses it.
#pragma once

#include <map>
#include <vector>

#include "collective/repair_plan.h"
#include "collective/ring_plan.h"
#include "peer/operation.h"

namespace pccl::peer {

class RingOp final : public Operation {
public:
    /// `bytes_in_flight`: bytes that the path to the successor holds. `missing`: final chunks that some members miss.
    RingOp(OpId id, ReduceRequest &request, std::uint64_t spec_hash, const std::vector<PeerId> &ring,
           const collective::RingPlan &plan, BufferPool &pool, std::size_t bytes_in_flight = 0,
           std::vector<collective::MissingChunk> missing = {});

    const char *reject_reason(PeerId from, const wire::FrameHeader &header) const override;
    Intake prepare_receive(const wire::FrameHeader &header) override;
    Received receive(const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    Source source(PeerId to, const wire::FrameHeader &sent) const override;
    bool produce(Link &link, OutFrame &frame) override;
    bool finished() const override { return finals_ == finals_due_; }
    std::vector<PeerId> waits_for() const override { return finished() ? std::vector<PeerId>{} : std::vector{predecessor_}; }
    void posted_at(Link &link) override;
    void record_finals() override;
    void suspend_for_repair() override;
    void finish_local() override;

private:
    /// The state of a chunk. kPlaced: its partial result is in the receive buffer.
    enum Mark : std::uint8_t { kPartialIn = 1, kFinalIn = 2, kSaved = 4, kPlaced = 8 };

    std::size_t chunk_index(const wire::FrameHeader &header) const { return first_chunk_[header.block()] + header.chunk(); }
    bool is_missing(const wire::FrameHeader &header) const { return header.block() == plan_.members(); }
    op::Span span_of(const wire::FrameHeader &header) const;
    const char *missing_reject_reason(const wire::FrameHeader &header) const;
    template <class F> void for_each_chunk(F &&f) const;
    void finish_alone();
    std::size_t payload_bytes(const wire::FrameHeader &header, std::size_t elements) const;
    std::size_t partial_bytes(std::size_t hop, std::size_t elements) const;
    const std::byte *own(std::size_t chunk, std::size_t element) const;
    const std::byte *own_contribution_copy(std::size_t chunk, op::Span span);
    void save(std::size_t chunk, op::Span span);
    void forward(const wire::FrameHeader &header, std::size_t hop, const std::byte *payload, std::size_t bytes, Buffer keep,
                 PackedPtr packed = nullptr);
    bool combine_and_forward(const wire::FrameHeader &header, op::Span span, std::byte *payload, const Buffer &keep);
    bool complete_block_chunk(const wire::FrameHeader &header, op::Span span, std::byte *payload);
    void complete_quantized(const wire::FrameHeader &header, op::Span span, std::byte *payload, const Buffer &keep);
    Source source_of_partial(const wire::FrameHeader &sent) const;
    Source source_of_final(const wire::FrameHeader &sent) const;
    void take_final(const wire::FrameHeader &header, op::Span span, std::byte *payload, const Buffer &keep);
    void start_chunk(OutFrame &frame);
    void relay_final(OutFrame &frame);
    std::byte *temporary();

    /// The kind of the next frame that is sent to the successor.
    enum class Next { nothing, forward, start, relay };
    Next next() const;
    std::size_t next_bytes(Next next) const;

    collective::RingPlan plan_;
    PeerId successor_, predecessor_;
    BufferPool &pool_;
    op::Type accumulator_;
    std::size_t element_bytes_, accumulator_bytes_;

    std::vector<collective::MissingChunk> missing_;
    std::vector<std::size_t> relays_;       ///< indices in `missing_` that this member holds and its successor misses
    std::size_t relayed_ = 0;               ///< entries of `relays_` that have been sent
    std::vector<std::size_t> first_chunk_;  ///< index of the first chunk of each block, and of the missing chunks
    std::vector<std::uint8_t> marks_;       ///< Mark, per chunk
    std::size_t total_chunks_ = 0;
    std::size_t finals_ = 0;  ///< chunks that have become final here
    std::size_t finals_due_ = 0;
    std::size_t pipeline_depth_ = 1;  ///< see RingPlan::send_priority
    std::size_t started_ = 0;         ///< chunks of the first block that have been sent
    Partner to_successor_;
    std::multimap<std::size_t, OutFrame> outbox_;  ///< frames to pass on, by send_priority
    Buffer temporary_;
};

}  // namespace pccl::peer
