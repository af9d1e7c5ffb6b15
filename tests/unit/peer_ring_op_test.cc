// One member of a ring: how it treats damaged chunks.
#include "peer/ring_op.h"

#include <vector>

#include <gtest/gtest.h>

#include "kernel/hash.h"

namespace pccl::peer {
namespace {

using wire::FrameHeader;
using wire::FrameKind;

class TwoMembers : public testing::Test {
protected:
    /// Fills in the request before the operation is created.
    ReduceRequest &complete(ReduceRequest &empty) {
        empty.spec.count = send.size();
        empty.spec.type = op::Type::f32;
        empty.set_buffers(send.data(), recv.data());
        return empty;
    }

    /// The other member's contribution to the block that is completed here.
    FrameHeader contribution() const {
        FrameHeader header;
        header.kind = FrameKind::reduce_chunk;
        header.bytes = static_cast<std::uint32_t>(theirs.size() * sizeof(float));
        header.checksum = kernel::checksum(theirs.data(), header.bytes);
        return header;
    }

    Received give(const FrameHeader &header) {
        EXPECT_STREQ(op.reject_reason(PeerId{2}, header), nullptr);
        const Intake intake = op.prepare_receive(header);
        EXPECT_TRUE(intake.taker_checks);
        std::memcpy(intake.into, theirs.data(), header.bytes);
        return op.receive(header, intake.into, intake.keep);
    }

    std::vector<float> send = std::vector<float>(512, 1.0f), recv = std::vector<float>(512, -1.0f),
                       theirs = std::vector<float>(256, 2.0f);
    ReduceRequest request;
    BufferPool pool;
    RingOp op{OpId{ViewNumber{1}, Tag{7}, 0},
              complete(request),
              5,
              {PeerId{1}, PeerId{2}},
              collective::RingPlan(512, sizeof(float), 2, 0),
              pool};
};

TEST_F(TwoMembers, CompleteAnIntactChunk) {
    EXPECT_EQ(give(contribution()), Received::part);
    EXPECT_EQ(recv[0], 3.0f);
    EXPECT_EQ(recv[255], 3.0f);
    EXPECT_EQ(recv[256], -1.0f);
}

TEST_F(TwoMembers, DetectADamagedContribution) {
    const FrameHeader header = contribution();
    theirs[200] = 2.5f;
    EXPECT_EQ(give(header), Received::damaged);
    EXPECT_FALSE(op.finished());
}

}  // namespace
}  // namespace pccl::peer
