// One member of a direct exchange: the frames that it rejects, and the result of the others.
#include "peer/direct_op.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/peer_operation.h"

namespace pccl::peer {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using wire::FrameHeader;
using wire::FrameKind;

/// Rank 1 of three, in a sum of floats over long paths.
class DirectMember : public testing::Test, protected OneMember {
protected:
    static constexpr std::size_t kCount = 10000;
    const std::vector<PeerId> ring{PeerId{10}, PeerId{11}, PeerId{12}};
    const collective::DirectPlan plan{kCount, 4, true};
    std::vector<float> send = std::vector<float>(kCount, 1.0F), recv = std::vector<float>(kCount, 0.0F);

    void SetUp() override {
        ASSERT_GT(plan.pieces(), 2u);
        describe(op::Collective::all_reduce, kCount);
        request.set_buffers(send.data(), recv.data());
        op = std::make_unique<DirectOp>(OpId{}, request, 7, ring, 1, plan, pool);
    }

    FrameHeader header(std::size_t from, std::size_t piece) const {
        FrameHeader header;
        header.kind = FrameKind::direct_chunk;
        header.index = static_cast<std::uint32_t>(from);
        header.aux = static_cast<std::uint32_t>(piece);
        header.bytes = piece < plan.pieces() ? static_cast<std::uint32_t>(plan.piece(piece).count * 4) : 4;
        return header;
    }
    std::string reject_reason(const FrameHeader &header, std::size_t from) const {
        return OneMember::reject_reason(ring[from], header);
    }
    /// Delivers a piece of `value`s. `early`: as one that arrived before the operation was posted.
    Received deliver(std::size_t from, std::size_t piece, float value, bool early = false) {
        const FrameHeader frame = header(from, piece);
        if (!early) return OneMember::deliver(ring[from], frame, value);
        const Buffer held(new std::byte[frame.bytes]);
        std::fill_n(reinterpret_cast<float *>(held.get()), frame.bytes / 4, value);
        return op->receive(frame, held.get(), held);
    }
};

TEST_F(DirectMember, CombinesAllPiecesInAnyOrderOfArrival) {
    for (std::size_t i = plan.pieces(); i-- > 0;) {
        EXPECT_EQ(deliver(2, i, 20, i % 2 == 0), Received::part);
        const bool last = i == 0;
        EXPECT_THAT(recv, Each(0.0F));
        EXPECT_EQ(deliver(0, i, 10), last ? Received::last : Received::part);
    }
    EXPECT_TRUE(op->finished());
    EXPECT_THAT(recv, Each(31.0F));
}

TEST_F(DirectMember, RejectsInvalidPieces) {
    EXPECT_THAT(reject_reason(header(0, 0), 2), HasSubstr("another member's rank"));
    EXPECT_THAT(reject_reason(header(3, 0), 0), HasSubstr("another member's rank"));
    EXPECT_THAT(reject_reason(header(0, plan.pieces()), 0), HasSubstr("does not exist"));
    FrameHeader shorter = header(0, 0);
    shorter.bytes -= 4;
    EXPECT_THAT(reject_reason(shorter, 0), HasSubstr("wrong length"));
    FrameHeader other = header(0, 0);
    other.kind = FrameKind::reduce_chunk;
    EXPECT_THAT(reject_reason(other, 0), HasSubstr("a chunk of a ring"));
}

TEST_F(DirectMember, RejectsDuplicatePieces) {
    deliver(0, 1, 10);
    EXPECT_THAT(reject_reason(header(0, 1), 0), HasSubstr("sent before"));
    EXPECT_EQ(reject_reason(header(0, 0), 0), "");
    EXPECT_EQ(reject_reason(header(2, 1), 2), "");
    for (std::size_t i = 0; i < plan.pieces(); ++i) {
        if (i != 1) deliver(0, i, 10);
    }
    EXPECT_THAT(reject_reason(header(0, 0), 0), HasSubstr("sent before"));
}

TEST_F(DirectMember, RejectsItsOwnContributionFromOthers) {
    EXPECT_THAT(reject_reason(header(1, 0), 1), HasSubstr("sent before"));
}

}  // namespace
}  // namespace pccl::peer
