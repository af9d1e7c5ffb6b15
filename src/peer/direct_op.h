// One small all-reduce by direct exchange: every member sends its whole contribution to every other, and each combines all of
// them in the order of the ring. I/O thread only.
//
// It takes one one-way delay instead of the ring's 2(N-1), and needs a link between every two members. Over long paths a
// contribution is sent in pieces (collective/direct_plan.h), each of which can use another lane. All members combine the same
// contributions in the same order, so all hold the same bits.
#pragma once

#include <vector>

#include "collective/direct_plan.h"
#include "peer/operation.h"

namespace pccl::peer {

class DirectOp final : public Operation {
public:
    DirectOp(OpId id, ReduceRequest &request, std::uint64_t spec_hash, const std::vector<PeerId> &ring, std::size_t rank,
             const collective::DirectPlan &plan, BufferPool &pool);

    const char *reject_reason(PeerId from, const wire::FrameHeader &header) const override;
    Intake prepare_receive(const wire::FrameHeader &header) override;
    Received receive(const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    Source source(PeerId to, const wire::FrameHeader &sent) const override;
    bool produce(Link &link, OutFrame &frame) override;
    bool finished() const override { return arrived_ == ring_.size(); }
    std::vector<PeerId> waits_for() const override;
    void posted_at(Link &link) override;
    bool wake_senders(Link &from) override {
        from.kick();
        return true;
    }

private:
    struct Member {
        Buffer contribution;        ///< as received
        std::vector<bool> arrived;  ///< per piece; empty before the first
        std::size_t missing = 0;    ///< pieces not received yet
        std::size_t sent = 0;       ///< own pieces that have been sent to this member
        Partner partner;
    };

    const std::byte *contribution(std::size_t rank) const;
    std::byte *place(Member &member, std::size_t piece);
    void combine_all();

    std::size_t rank_;
    collective::DirectPlan plan_;
    std::size_t element_bytes_;
    BufferPool &pool_;
    std::vector<Member> members_;
    std::size_t arrived_ = 1;  ///< whole contributions held here, including this member's own
    /// A copy of this member's input. In place, the result can be written before the input has been sent to all members. And all
    /// members must combine the same values, even if the program changes the buffer meanwhile.
    Buffer copy_;
    std::vector<std::uint64_t> checksums_;  ///< of the pieces to send
};

}  // namespace pccl::peer
