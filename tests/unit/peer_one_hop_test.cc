// One member of a one-hop all-reduce: the frames that it rejects, and the result of the others.
#include "peer/one_hop_op.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/peer_operation.h"

namespace pccl::peer {
namespace {

using ::testing::HasSubstr;
using wire::FrameHeader;
using wire::FrameKind;

/// Rank 1 of three, in a sum of floats.
class OneHopMember : public testing::Test, protected OneMember {
protected:
    static constexpr std::size_t kCount = 6000000;
    const std::vector<PeerId> ring{PeerId{10}, PeerId{11}, PeerId{12}};
    const collective::OneHopPlan plan{kCount, 4, 3};
    std::vector<float> send = std::vector<float>(kCount, 1.0F), recv = std::vector<float>(kCount, 0.0F);

    void SetUp() override {
        describe(op::Collective::all_reduce, kCount);
        request.set_buffers(send.data(), recv.data());
        op = std::make_unique<OneHopOp>(OpId{}, request, 7, ring, 1, pool, links);
    }

    FrameHeader contribution(std::size_t from, std::size_t chunk) const {
        FrameHeader header;
        header.kind = FrameKind::reduce_chunk;
        header.hop = static_cast<std::uint16_t>(from);
        header.index = 1;
        header.aux = static_cast<std::uint32_t>(chunk);
        header.bytes = chunk < plan.chunks(1) ? static_cast<std::uint32_t>(plan.chunk(1, chunk).count * 4) : 4;
        return header;
    }
    std::string reject_reason(const FrameHeader &header, std::size_t from) const {
        return OneMember::reject_reason(ring[from], header);
    }
    std::string reject_reason(const FrameHeader &header) const { return reject_reason(header, header.hop); }
    void deliver(const FrameHeader &header, float value) { OneMember::deliver(ring[header.hop], header, value); }
};

TEST_F(OneHopMember, CombinesAChunkInAnyOrderOfArrival) {
    deliver(contribution(2, 1), 20);
    deliver(contribution(0, 0), 10);
    deliver(contribution(2, 0), 20);
    EXPECT_EQ(recv[plan.chunk(1, 0).begin], 31.0F);
    EXPECT_EQ(recv[plan.chunk(1, 1).begin], 0.0F);
    deliver(contribution(0, 1), 10);
    EXPECT_EQ(recv[plan.chunk(1, 1).begin], 31.0F);
}

TEST_F(OneHopMember, RejectsInvalidContributions) {
    EXPECT_THAT(reject_reason(contribution(0, 0), 2), HasSubstr("another member's rank"));
    EXPECT_THAT(reject_reason(contribution(1, 0)), HasSubstr("another member's rank"));
    FrameHeader beyond = contribution(0, 0);
    beyond.hop = 3;
    EXPECT_THAT(reject_reason(beyond, 0), HasSubstr("another member's rank"));
    FrameHeader elsewhere = contribution(0, 0);
    elsewhere.index = 2;
    EXPECT_THAT(reject_reason(elsewhere), HasSubstr("another member's block"));
    EXPECT_THAT(reject_reason(contribution(0, plan.chunks(1))), HasSubstr("does not exist"));
    FrameHeader shorter = contribution(0, 0);
    shorter.bytes -= 4;
    EXPECT_THAT(reject_reason(shorter), HasSubstr("wrong length"));
    FrameHeader other = contribution(0, 0);
    other.kind = FrameKind::direct_chunk;
    EXPECT_THAT(reject_reason(other), HasSubstr("another algorithm"));
}

TEST_F(OneHopMember, RejectsDuplicateContributions) {
    deliver(contribution(0, 0), 1);
    EXPECT_THAT(reject_reason(contribution(0, 0)), HasSubstr("sent before"));
    deliver(contribution(2, 0), 1);
    EXPECT_THAT(reject_reason(contribution(0, 0)), HasSubstr("sent before"));
    EXPECT_THAT(reject_reason(contribution(2, 0)), HasSubstr("sent before"));
}

TEST_F(OneHopMember, RejectsContributionsBeyondTheCredit) {
    const std::size_t window = plan.window(plan.max_chunk_elements() * 4);
    ASSERT_LT(window, plan.chunks(1)) << "the buffer of this test is too small";
    EXPECT_EQ(reject_reason(contribution(0, window - 1)), "");
    EXPECT_THAT(reject_reason(contribution(0, window)), HasSubstr("beyond its credit"));
}

TEST_F(OneHopMember, RejectsInvalidFinalChunks) {
    FrameHeader final = contribution(0, 0);
    final.kind = FrameKind::gather_chunk;
    final.index = 0;
    EXPECT_THAT(reject_reason(final), HasSubstr("lacks this member's contribution"));
    final.index = 2;
    EXPECT_THAT(reject_reason(final), HasSubstr("does not own"));
    final.index = 0;
    final.aux = static_cast<std::uint32_t>(plan.chunks(0));
    EXPECT_THAT(reject_reason(final), HasSubstr("does not exist"));
}

TEST_F(OneHopMember, RejectsInvalidCredits) {
    FrameHeader credit;
    credit.kind = FrameKind::reduce_credit;
    credit.hop = 2;
    credit.index = 2;
    credit.aux = static_cast<std::uint32_t>(plan.chunks(2));
    EXPECT_EQ(reject_reason(credit), "");
    ++credit.aux;
    EXPECT_THAT(reject_reason(credit), HasSubstr("do not exist"));
    credit.aux = 1;
    credit.index = 0;
    EXPECT_THAT(reject_reason(credit), HasSubstr("another member's block"));
    credit.index = 2;
    credit.bytes = 1;
    EXPECT_THAT(reject_reason(credit), HasSubstr("payload"));
}

}  // namespace
}  // namespace pccl::peer
