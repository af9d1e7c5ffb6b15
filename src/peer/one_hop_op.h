// An operation by direct exchange of parts: everyone's contribution to a part goes straight to the part's owner, who combines them and
// sends the result straight to everyone. Two one-way delays instead of the ring's 2(N-1), as many bytes, and with quantization each
// contribution and each result is rounded once, so that the error does not grow with the group. Needs a link between every two members.
// I/O thread only.
//
// A chunk is combined when all contributions to it are there, in one order (collective/one_hop_plan.h), piece by piece in cache. What the
// owner holds meanwhile is bounded by credits: a sender keeps to the chunks that it was granted. Final chunks are received straight into
// place; in-place calls save what they overwrite. No contribution can be overwritten before it is sent, since the final chunk waits for it.
//
// A reduce-scatter ends where the owners have combined, an all-gather begins there: one one-way delay. Of an all-gather, a member's own
// chunks go to their place when they are first sent; packed, they are kept until they have gone out to all.
#pragma once

#include <deque>
#include <vector>

#include "collective/one_hop_plan.h"
#include "peer/link_table.h"
#include "peer/operation.h"

namespace pccl::peer {

class OneHopOp final : public Operation {
public:
    OneHopOp(OpId id, ReduceRequest &request, std::uint64_t fingerprint, const std::vector<PeerId> &ring, std::size_t rank, BufferPool &pool,
             LinkTable &links);

    const char *objection(PeerId from, const wire::FrameHeader &header) const override;
    Intake intake(const wire::FrameHeader &header) override;
    Received receive(const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    Source source(PeerId to, const wire::FrameHeader &sent) const override;
    bool produce(Link &link, OutFrame &frame) override;
    bool finished() const override { return finals_ == finals_due_; }
    std::vector<PeerId> waits_for() const override;
    void posted_at(Link &link) override;
    bool stir(Link &from) override;
    void settle() override;

private:
    struct Member {
        std::deque<OutFrame> outbox;  ///< final chunks for it
        std::size_t sent = 0;         ///< chunks of its block to which it was sent the contribution; of an all-gather, of this one's
        std::size_t granted = 0;      ///< chunks of its block that may be sent
        std::vector<std::uint8_t> marks;  ///< per chunk of its block
        std::size_t eager_bytes = 0;  ///< sent before it posted the operation
        bool posted = false;
    };
    /// What happened to a chunk so far.
    enum Mark : std::uint8_t { kFinalIn = 1, kSaved = 2 };
    /// A chunk of this member's block.
    struct OwnChunk {
        std::vector<Buffer> contributions;  ///< by rank
        std::size_t arrived = 0;
        std::size_t unsent = 0;  ///< members whose final chunk has not gone out yet
        bool complete = false;
    };

    std::size_t rank_of(PeerId peer) const;
    std::size_t payload_bytes(std::size_t elements) const;
    std::byte *place(op::Span span) const { return request_.place(span.begin); }
    const std::byte *own(op::Span span) const;
    void save(std::size_t block, std::size_t chunk);
    const char *objection_to_contribution(const wire::FrameHeader &header) const;
    const char *objection_to_final(const wire::FrameHeader &header) const;
    void take_contribution(const wire::FrameHeader &header, const Buffer &keep);
    void take_final(const wire::FrameHeader &header, std::byte *payload);
    void complete(std::size_t chunk);
    Buffer combine(const OwnChunk &own_chunk, op::Span span);
    Buffer combine_quantized(const OwnChunk &own_chunk, op::Span span);
    void release();
    wire::FrameHeader own_header(wire::FrameKind kind, std::size_t block, std::size_t chunk) const;
    void publish(std::size_t chunk, Buffer packed);
    std::size_t may_send(std::size_t to) const;
    std::size_t block_for(std::size_t to) const { return plan_.reduces() ? to : rank_; }
    void contribute(std::size_t to, OutFrame &frame);
    void hand_out(std::size_t to, OutFrame &frame);
    void prepare_next();

    const std::vector<PeerId> ring_;
    std::size_t rank_;
    collective::OneHopPlan plan_;
    BufferPool &pool_;
    LinkTable &links_;
    op::Type accumulator_;
    std::size_t element_bytes_;

    std::vector<Member> members_;
    std::deque<OwnChunk> own_chunks_;  ///< those from released_ on that something has come of
    std::size_t window_ = 0;
    std::size_t released_ = 0;  ///< chunks of this member's block, from the first, of which nothing is held any more
    std::size_t granted_ = 0;   ///< chunks of this member's block that the others may send
    std::vector<OutFrame> prepared_;  ///< of an all-gather: this member's chunks, as they go out to all
    std::size_t handed_out_ = 0;      ///< of them, those that have gone out to all
    std::size_t finals_due_ = 0;
    std::size_t finals_ = 0;
    bool stirred_ = false;      ///< there is something new for everyone
};

}  // namespace pccl::peer
