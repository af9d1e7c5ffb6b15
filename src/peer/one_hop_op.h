// One one-hop operation at one member: each member sends its input to a block directly to the block's owner, which combines the
// inputs and sends the result directly to all members. The plan is in collective/one_hop_plan.h. I/O thread only.
//
// It takes two one-way delays instead of the ring's 2(N-1) and sends equally many bytes. With quantization, each contribution and
// each result is rounded once, so the error does not grow with the group. It needs a link between every two members.
//
// The owner combines a chunk when all contributions to it have arrived, in one fixed order and in pieces that fit the cache.
// Credits bound the memory that the contributions take at the owner: a sender sends only the chunks that it was granted. Final
// chunks are received directly into the receive buffer. In place, overwritten input is saved first. Input that has not been sent
// cannot be overwritten, since the final chunk depends on it.
//
// A reduce-scatter ends when the owners have combined their blocks; an all-gather begins at the owners. Each takes one one-way
// delay. In an all-gather, a member's own chunks are written to its receive buffer when they are first sent. Quantized ones are
// kept until they have been sent to all members.
#pragma once

#include <deque>
#include <vector>

#include "collective/one_hop_plan.h"
#include "peer/link_table.h"
#include "peer/operation.h"

namespace pccl::peer {

class OneHopOp final : public Operation {
public:
    OneHopOp(OpId id, ReduceRequest &request, std::uint64_t spec_hash, const std::vector<PeerId> &ring, std::size_t rank,
             BufferPool &pool, LinkTable &links);

    const char *reject_reason(PeerId from, const wire::FrameHeader &header) const override;
    Intake prepare_receive(const wire::FrameHeader &header) override;
    Received receive(const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    Source source(PeerId to, const wire::FrameHeader &sent) const override;
    bool produce(Link &link, OutFrame &frame) override;
    bool finished() const override { return finals_ == finals_due_; }
    std::vector<PeerId> waits_for() const override;
    void posted_at(Link &link) override;
    bool wake_senders(Link &from) override;
    void finish_local() override;

private:
    struct Member {
        std::deque<OutFrame> outbox;  ///< final chunks to send to this member
        std::size_t sent = 0;     ///< chunks sent to this member: contributions to its block or, without a reduction, own chunks
        std::size_t granted = 0;  ///< chunks of its block that may be sent
        std::vector<std::uint8_t> marks;  ///< Mark, per chunk of its block
        Partner partner;
    };
    /// The state of a chunk.
    enum Mark : std::uint8_t { kFinalIn = 1, kSaved = 2 };
    /// A chunk of this member's block.
    struct OwnChunk {
        std::vector<Buffer> contributions;  ///< by rank
        std::size_t arrived = 0;
        std::size_t unsent = 0;  ///< members to which the final chunk has not been sent yet
        bool complete = false;
    };

    std::size_t payload_bytes(std::size_t elements) const;
    std::byte *output(op::Span span) const { return request_.output(span.begin); }
    const std::byte *own(op::Span span) const;
    void save(std::size_t block, std::size_t chunk);
    const char *contribution_reject_reason(const wire::FrameHeader &header) const;
    const char *final_reject_reason(const wire::FrameHeader &header) const;
    void take_contribution(const wire::FrameHeader &header, const Buffer &keep);
    void take_final(const wire::FrameHeader &header, std::byte *payload);
    void complete(std::size_t chunk);
    Buffer combine(const OwnChunk &own_chunk, op::Span span);
    Buffer combine_quantized(const OwnChunk &own_chunk, op::Span span);
    void release();
    wire::FrameHeader own_header(wire::FrameKind kind, std::size_t block, std::size_t chunk) const;
    void publish(std::size_t chunk, Buffer packed);
    bool reduces() const { return plan_.has(op::Phase::reduce_to_owner); }
    bool gathers() const { return plan_.has(op::Phase::gather_from_owner); }
    std::size_t chunks_sendable(std::size_t to) const;
    std::size_t block_for(std::size_t to) const { return reduces() ? to : rank_; }
    void contribute(std::size_t to, OutFrame &frame);
    void distribute(std::size_t to, OutFrame &frame);
    void prepare_next();

    std::size_t rank_;
    collective::OneHopPlan plan_;
    BufferPool &pool_;
    LinkTable &links_;
    op::Type accumulator_;
    std::size_t element_bytes_;

    std::vector<Member> members_;
    std::deque<OwnChunk> own_chunks_;  ///< chunks of this member's block from `released_` to the last one with a contribution
    std::size_t window_ = 0;
    std::size_t released_ = 0;        ///< chunks of this member's block, from the first, whose memory has been released
    std::size_t granted_ = 0;         ///< chunks of this member's block that the others may send
    std::vector<OutFrame> prepared_;  ///< without a reduction: this member's chunks as they are sent to all
    std::size_t distributed_ = 0;     ///< entries of `prepared_` that have been sent to all
    std::size_t finals_due_ = 0;
    std::size_t finals_ = 0;     ///< chunks that have become final here
    bool news_for_all_ = false;  ///< there are new frames for every member
};

}  // namespace pccl::peer
