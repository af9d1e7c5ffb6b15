// A small all-reduce by direct exchange: everyone sends its whole contribution to everyone, and each sums in ring order. One one-way
// delay instead of the ring's 2(N-1). Needs a link between every two members. I/O thread only.
//
// Over long paths a contribution goes in pieces (collective/direct_plan.h), each of which may take another connection.
// All members combine the same contributions in the same order, so all hold the same bits.
#pragma once

#include <vector>

#include "collective/direct_plan.h"
#include "peer/operation.h"

namespace pccl::peer {

class DirectOp final : public Operation {
public:
    DirectOp(OpId id, ReduceRequest &request, std::uint64_t fingerprint, const std::vector<PeerId> &ring, std::size_t rank,
             const collective::DirectPlan &plan, BufferPool &pool);

    const char *objection(PeerId from, const wire::FrameHeader &header) const override;
    Intake intake(const wire::FrameHeader &header) override;
    Received receive(const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    Source source(PeerId to, const wire::FrameHeader &sent) const override;
    bool produce(Link &link, OutFrame &frame) override;
    bool finished() const override { return arrived_ == ring_.size(); }
    std::vector<PeerId> waits_for() const override;
    void posted_at(Link &link) override;
    bool stir(Link &from) override {
        from.kick();
        return true;
    }

private:
    struct Member {
        Buffer contribution;            ///< as it came
        std::vector<bool> arrived;      ///< per piece; empty before the first
        std::size_t missing = 0;        ///< pieces
        std::size_t sent = 0;           ///< pieces of one's own that have gone out to it
        std::size_t eager_bytes = 0;    ///< of them, those sent before it posted the operation
        bool posted = false;            ///< it takes what it is sent, whatever the budget
    };

    std::size_t rank_of(PeerId peer) const;
    const std::byte *contribution(std::size_t rank) const;
    std::byte *place(Member &member, std::size_t piece);
    void combine_all();

    const std::vector<PeerId> ring_;
    std::size_t rank_;
    collective::DirectPlan plan_;
    std::size_t element_bytes_;
    BufferPool &pool_;
    std::vector<Member> members_;
    std::size_t arrived_ = 1;               ///< contributions held whole, one's own included
    /// Of one's own: in place, the result may be written before it has gone to all; and all must combine the same, whatever the program
    /// writes meanwhile.
    Buffer copy_;
    std::vector<std::uint64_t> checksums_;  ///< of the pieces that are sent
};

}  // namespace pccl::peer
