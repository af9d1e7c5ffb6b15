// Shards, and one member of a reduce-scatter or an all-gather: the chunks that it needs, the elements that it writes, the frames
// that it rejects. The tests of stale shards are in peer_engine_test.cc.
#include "peer/shard.h"

#include <memory>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "peer/one_hop_op.h"
#include "peer/ring_op.h"
#include "unit/peer_operation.h"

namespace pccl::peer {
namespace {

using op::Collective;
using ::testing::Each;
using wire::FrameHeader;
using wire::FrameKind;

/// The first of two members that share 512 floats, half each.
class HalfOwner : public testing::TestWithParam<op::Algorithm>, protected OneMember {
protected:
    void start(Collective collective, bool in_place = false) {
        const bool scatters = collective == Collective::reduce_scatter;
        describe(collective, 512);
        request.shard = {0, 256};
        std::vector<float> &from = in_place || scatters ? whole : part, &to = in_place || !scatters ? whole : part;
        request.set_buffers(from.data(), to.data());
        request.begin_undo();
        if (GetParam() == op::Algorithm::one_hop) {
            op = std::make_unique<OneHopOp>(OpId{}, request, 5, ring, 0, pool, links);
        } else {
            const collective::RingPlan plan(collective, collective::blocks_of(collective, 512, ring, op::kQuantBlock),
                                            sizeof(float), 0);
            op = std::make_unique<RingOp>(OpId{}, request, 5, ring, plan, pool);
        }
    }
    FrameHeader frame(FrameKind kind, std::uint32_t block) const {
        FrameHeader header;
        header.kind = kind;
        header.index = block;
        header.hop = GetParam() == op::Algorithm::one_hop ? 1 : 0;
        header.bytes = 256 * sizeof(float);
        header.checksum = checksum_of(256, kTheirs);
        return header;
    }
    Received give(const FrameHeader &header) { return deliver(PeerId{2}, header, kTheirs); }
    static std::vector<float> half(const std::vector<float> &values, std::size_t which) {
        const auto begin = values.begin() + static_cast<std::ptrdiff_t>(which * 256);
        return {begin, begin + 256};
    }

    static constexpr float kTheirs = 2.0f;
    const std::vector<PeerId> ring{PeerId{1}, PeerId{2}};
    std::vector<float> whole = std::vector<float>(512, 1.0f), part = std::vector<float>(256, 3.0f);
};

TEST_P(HalfOwner, FinishesAReduceScatterWithItsOwnHalf) {
    start(Collective::reduce_scatter);
    EXPECT_FALSE(op->finished());
    EXPECT_EQ(give(frame(FrameKind::reduce_chunk, 0)), Received::last);
    EXPECT_TRUE(op->finished());
    EXPECT_THAT(part, Each(3.0f));
    EXPECT_THAT(whole, Each(1.0f));
}

TEST_P(HalfOwner, SavesInputThatItOverwritesInPlace) {
    start(Collective::reduce_scatter, true);
    give(frame(FrameKind::reduce_chunk, 0));
    EXPECT_THAT(half(whole, 0), Each(3.0f));
    EXPECT_THAT(half(whole, 1), Each(1.0f));
    request.undo.restore();
    EXPECT_THAT(whole, Each(1.0f));
}

TEST_P(HalfOwner, StoresItsOwnHalfOfAnAllGatherByTheCommit) {
    start(Collective::all_gather);
    EXPECT_EQ(give(frame(FrameKind::gather_chunk, 1)), Received::last);
    EXPECT_TRUE(op->finished());
    op->finish_local();  // the other member was lost before it received a chunk
    EXPECT_THAT(half(whole, 0), Each(3.0f));
    EXPECT_THAT(half(whole, 1), Each(2.0f));
    EXPECT_THAT(part, Each(3.0f));
}

TEST_P(HalfOwner, RejectsFramesOfPhasesThatItsCollectiveLacks) {
    start(Collective::reduce_scatter);
    EXPECT_NE(reject_reason(PeerId{2}, frame(FrameKind::gather_chunk, 1)), "");
    start(Collective::all_gather);
    EXPECT_NE(reject_reason(PeerId{2}, frame(FrameKind::reduce_chunk, 0)), "");
    EXPECT_NE(reject_reason(PeerId{2}, frame(FrameKind::gather_chunk, 0)), "") << "its own half";
    EXPECT_NE(reject_reason(PeerId{2}, frame(FrameKind::reduce_credit, 1)), "");
}

INSTANTIATE_TEST_SUITE_P(By, HalfOwner, testing::Values(op::Algorithm::ring, op::Algorithm::one_hop), [](const auto &by) {
    return by.param == op::Algorithm::ring ? std::string("Ring") : std::string("OneHop");
});

TEST(Shard, IdentifiesItsMembersInAnyOrderOfTheRing) {
    const PeerId a{3}, b{7}, c{9};
    const Shard one = shard_of(100000, {a, b, c}, b), other = shard_of(100000, {c, a, b}, b);
    EXPECT_EQ(one.membership, other.membership);
    EXPECT_EQ(one.span, other.span);
    EXPECT_EQ(one.place, 1u);
    EXPECT_NE(shard_of(100000, {a, b, PeerId{10}}, b).membership, one.membership) << "equally many members, but others";
    EXPECT_NE(shard_of(100000, {a, b}, b).membership, one.membership);
}

}  // namespace
}  // namespace pccl::peer
