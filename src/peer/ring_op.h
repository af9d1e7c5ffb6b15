// One ring operation at one member: takes chunks in, combines, hands chunks out. I/O thread only.
//
// The caller's send buffer is only read. A received partial result is combined with this member's contribution in the scratch buffer it
// arrived in and goes on from there, while it is in cache; where scratch is crowded (a successor that is slow or has not called), it
// goes to the place in the receive buffer that its final value will fill, so that memory stays bounded and reading never stops (not so
// for quantized and widened partial results, which do not fit there: these take memory while the successor is behind). The owner
// of a block finishes it once; final chunks are received straight into place. In-place calls save what they overwrite.
//
// A reduce-scatter has no room for others' partial results in its receive buffer: they take memory while the successor is behind. Of an
// all-gather, a member's own chunks go to their place when they are sent: they count as its own from the beginning, since nobody has them
// all without that.
//
// Of an operation that is to be repaired, a chunk becomes final at once and whole, or not at all: in place, it is received beside the
// buffer and nothing is saved. When it goes on after a loss, the ring carries two kinds of chunks: those that are reduced again, in
// blocks as ever, and final ones that some lack, as one block more: each goes from member to member as far as it is lacking.
#pragma once

#include <map>
#include <vector>

#include "collective/repair_plan.h"
#include "collective/ring_plan.h"
#include "peer/operation.h"

namespace pccl::peer {

class RingOp final : public Operation {
public:
    /// `under_way`: bytes on the path to the successor at once. `lacking`: final chunks that some members lack.
    RingOp(OpId id, ReduceRequest &request, std::uint64_t fingerprint, const std::vector<PeerId> &ring, const collective::RingPlan &plan,
           BufferPool &pool, std::size_t under_way = 0, std::vector<collective::Lacking> lacking = {});

    const char *objection(PeerId from, const wire::FrameHeader &header) const override;
    Intake intake(const wire::FrameHeader &header) override;
    Received receive(const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    Source source(PeerId to, const wire::FrameHeader &sent) const override;
    bool produce(Link &link, OutFrame &frame) override;
    bool finished() const override { return finals_ == finals_due_; }
    std::vector<PeerId> waits_for() const override { return finished() ? std::vector<PeerId>{} : std::vector{predecessor_}; }
    void posted_at(Link &link) override;
    void record_finals() override;
    void carry() override;
    void settle() override;

private:
    /// What happened to a chunk so far.
    enum Mark : std::uint8_t { kPartialIn = 1, kFinalIn = 2, kSaved = 4, kPlaced = 8 };  ///< kPlaced: its partial result is in the receive buffer

    std::size_t chunk_index(const wire::FrameHeader &header) const { return first_chunk_[header.index] + header.aux; }
    bool of_lacking(const wire::FrameHeader &header) const { return header.index == plan_.members(); }
    op::Span span_of(const wire::FrameHeader &header) const;
    const char *objection_to_lacking(const wire::FrameHeader &header) const;
    template <class F>
    void for_each_chunk(F &&f) const;
    void finish_alone();
    std::size_t payload_bytes(const wire::FrameHeader &header, std::size_t elements) const;
    std::size_t partial_bytes(std::size_t hop, std::size_t elements) const;
    const std::byte *own(std::size_t chunk, std::size_t element) const;
    const std::byte *own_aside(std::size_t chunk, op::Span span);
    void save(std::size_t chunk, op::Span span);
    void forward(const wire::FrameHeader &header, std::size_t hop, const std::byte *payload, std::size_t bytes, Buffer keep,
                 PackedPtr packed = nullptr);
    bool combine_and_forward(const wire::FrameHeader &header, op::Span span, std::byte *payload, const Buffer &keep);
    bool complete_block_chunk(const wire::FrameHeader &header, op::Span span, std::byte *payload);
    void complete_quantized(const wire::FrameHeader &header, op::Span span, std::byte *payload, const Buffer &keep);
    Source source_of_partial(const wire::FrameHeader &sent) const;
    Source source_of_final(const wire::FrameHeader &sent) const;
    void take_final(const wire::FrameHeader &header, op::Span span, std::byte *payload, const Buffer &keep);
    void inject(OutFrame &frame);
    void hand_on(OutFrame &frame);
    std::byte *temporary();

    /// What goes to the successor next.
    enum class Next { nothing, forward, inject, hand_on };
    Next next() const;
    std::size_t next_bytes(Next next) const;

    collective::RingPlan plan_;
    PeerId successor_, predecessor_;
    BufferPool &pool_;
    op::Type accumulator_;
    std::size_t element_bytes_, accumulator_bytes_;

    std::vector<collective::Lacking> lacking_;
    std::vector<std::size_t> handing_on_;   ///< indices of those that are held here and lacking at the successor
    std::size_t handed_on_ = 0;             ///< of handing_on_, those that have gone out
    std::vector<std::size_t> first_chunk_;  ///< per block, and of those that some lack
    std::vector<std::uint8_t> marks_;       ///< per chunk
    std::size_t total_chunks_ = 0;
    std::size_t finals_ = 0;                ///< that have become so here
    std::size_t finals_due_ = 0;
    std::size_t apart_ = 1;                 ///< see RingPlan::turn
    std::size_t injected_ = 0;              ///< chunks of the first block that have gone out
    bool successor_posted_ = false;  ///< bulk may flow
    std::size_t eager_bytes_ = 0;    ///< sent before that
    std::multimap<std::size_t, OutFrame> outbox_;  ///< by turn
    Buffer temporary_;
};

}  // namespace pccl::peer
