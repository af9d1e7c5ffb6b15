// What a member of a one-hop all-reduce objects to, and what it makes of the rest.
#include "peer/one_hop_op.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernel/hash.h"

namespace pccl::peer {
namespace {

using ::testing::HasSubstr;
using wire::FrameHeader;
using wire::FrameKind;

class NobodyListens final : public LinkOwner {
    void on_link_up(Link &) override {}
    void on_link_down(Link &, const std::string &) override {}
};

/// Rank 1 of three, in a sum of floats; the others' frames are written here.
class OneHopMember : public testing::Test {
protected:
    static constexpr std::size_t kCount = 6000000;
    const std::vector<PeerId> ring{PeerId{10}, PeerId{11}, PeerId{12}};
    const collective::OneHopPlan plan{kCount, 4, 3};
    std::vector<float> send = std::vector<float>(kCount, 1.0F), recv = std::vector<float>(kCount, 0.0F);
    asio::io_context io;
    NobodyListens owner;
    Options options;
    LinkTable links{io, owner, options};
    BufferPool pool;
    ReduceRequest request;
    std::unique_ptr<OneHopOp> op;

    void SetUp() override {
        request.send = reinterpret_cast<const std::byte *>(send.data());
        request.recv = reinterpret_cast<std::byte *>(recv.data());
        request.what.count = kCount;
        request.what.type = op::Type::f32;
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
    std::string objection(const FrameHeader &header, std::size_t from) const {
        const char *why = op->objection(ring[from], header);
        return why ? why : "";
    }
    std::string objection(const FrameHeader &header) const { return objection(header, header.hop); }
    /// Hands over a contribution of `value`s.
    void deliver(const FrameHeader &header, float value) {
        ASSERT_EQ(objection(header), "");
        const Intake take = op->intake(header);
        ASSERT_EQ(take.action, Intake::Action::take);
        std::fill_n(reinterpret_cast<float *>(take.into), header.bytes / 4, value);
        op->receive(header, take.into, take.keep);
    }
};

TEST_F(OneHopMember, CombinesAChunkWhenAllContributionsAreThereInWhateverOrderTheyCome) {
    deliver(contribution(2, 1), 20);
    deliver(contribution(0, 0), 10);
    deliver(contribution(2, 0), 20);
    EXPECT_EQ(recv[plan.chunk(1, 0).begin], 31.0F);
    EXPECT_EQ(recv[plan.chunk(1, 1).begin], 0.0F);
    deliver(contribution(0, 1), 10);
    EXPECT_EQ(recv[plan.chunk(1, 1).begin], 31.0F);
}

TEST_F(OneHopMember, ObjectsToContributionsThatCannotBe) {
    EXPECT_THAT(objection(contribution(0, 0), 2), HasSubstr("another's name"));
    EXPECT_THAT(objection(contribution(1, 0)), HasSubstr("another's name"));
    FrameHeader beyond = contribution(0, 0);
    beyond.hop = 3;
    EXPECT_THAT(objection(beyond, 0), HasSubstr("another's name"));
    FrameHeader elsewhere = contribution(0, 0);
    elsewhere.index = 2;
    EXPECT_THAT(objection(elsewhere), HasSubstr("another's block"));
    EXPECT_THAT(objection(contribution(0, plan.chunks(1))), HasSubstr("does not exist"));
    FrameHeader shorter = contribution(0, 0);
    shorter.bytes -= 4;
    EXPECT_THAT(objection(shorter), HasSubstr("wrong length"));
    FrameHeader other = contribution(0, 0);
    other.kind = FrameKind::direct_chunk;
    EXPECT_THAT(objection(other), HasSubstr("another algorithm"));
}

TEST_F(OneHopMember, ObjectsToAContributionThatCameBefore) {
    deliver(contribution(0, 0), 1);
    EXPECT_THAT(objection(contribution(0, 0)), HasSubstr("came before"));
    deliver(contribution(2, 0), 1);
    EXPECT_THAT(objection(contribution(0, 0)), HasSubstr("came before"));
    EXPECT_THAT(objection(contribution(2, 0)), HasSubstr("came before"));
}

TEST_F(OneHopMember, ObjectsToMoreThanItGranted) {
    const std::size_t window = plan.window(plan.max_chunk_elements() * 4);
    ASSERT_LT(window, plan.chunks(1)) << "the buffer of this test is too small";
    EXPECT_EQ(objection(contribution(0, window - 1)), "");
    EXPECT_THAT(objection(contribution(0, window)), HasSubstr("beyond its credit"));
}

TEST_F(OneHopMember, ObjectsToFinalChunksThatCannotBe) {
    FrameHeader final = contribution(0, 0);
    final.kind = FrameKind::gather_chunk;
    final.index = 0;
    EXPECT_THAT(objection(final), HasSubstr("before this member's contribution"));
    final.index = 2;
    EXPECT_THAT(objection(final), HasSubstr("another than its owner"));
    final.index = 0;
    final.aux = static_cast<std::uint32_t>(plan.chunks(0));
    EXPECT_THAT(objection(final), HasSubstr("does not exist"));
}

TEST_F(OneHopMember, ObjectsToCreditsThatCannotBe) {
    FrameHeader credit;
    credit.kind = FrameKind::reduce_credit;
    credit.hop = 2;
    credit.index = 2;
    credit.aux = static_cast<std::uint32_t>(plan.chunks(2));
    EXPECT_EQ(objection(credit), "");
    ++credit.aux;
    EXPECT_THAT(objection(credit), HasSubstr("do not exist"));
    credit.aux = 1;
    credit.index = 0;
    EXPECT_THAT(objection(credit), HasSubstr("another's block"));
    credit.index = 2;
    credit.bytes = 1;
    EXPECT_THAT(objection(credit), HasSubstr("payload"));
}

}  // namespace
}  // namespace pccl::peer
