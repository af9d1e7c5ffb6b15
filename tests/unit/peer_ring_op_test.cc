// One member of a ring, fed by hand: what it does with damaged chunks.
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
    /// Before the operation is made of it.
    ReduceRequest &complete(ReduceRequest &empty) {
        empty.send = reinterpret_cast<const std::byte *>(send.data());
        empty.recv = reinterpret_cast<std::byte *>(recv.data());
        empty.what.count = send.size();
        empty.what.type = op::Type::f32;
        return empty;
    }

    /// The other's contribution to the block that is completed here.
    FrameHeader contribution() const {
        FrameHeader header;
        header.kind = FrameKind::reduce_chunk;
        header.bytes = static_cast<std::uint32_t>(theirs.size() * sizeof(float));
        header.checksum = kernel::checksum(theirs.data(), header.bytes);
        return header;
    }

    Received give(const FrameHeader &header) {
        EXPECT_STREQ(op.objection(PeerId{2}, header), nullptr);
        const Intake intake = op.intake(header);
        EXPECT_TRUE(intake.taker_checks);
        std::memcpy(intake.into, theirs.data(), header.bytes);
        return op.receive(header, intake.into, intake.keep);
    }

    std::vector<float> send = std::vector<float>(512, 1.0f), recv = std::vector<float>(512, -1.0f), theirs = std::vector<float>(256, 2.0f);
    ReduceRequest request;
    BufferPool pool;
    RingOp op{OpId{ViewNumber{1}, Tag{7}, 0}, complete(request), 5, {PeerId{1}, PeerId{2}}, collective::RingPlan(512, sizeof(float), 2, 0), pool};
};

TEST_F(TwoMembers, CompleteWhatArrivesWhole) {
    EXPECT_EQ(give(contribution()), Received::part);
    EXPECT_EQ(recv[0], 3.0f);
    EXPECT_EQ(recv[255], 3.0f);
    EXPECT_EQ(recv[256], -1.0f);
}

TEST_F(TwoMembers, NoticeADamagedContribution) {
    const FrameHeader header = contribution();
    theirs[200] = 2.5f;
    EXPECT_EQ(give(header), Received::damaged);
    EXPECT_FALSE(op.finished());
}

}  // namespace
}  // namespace pccl::peer
