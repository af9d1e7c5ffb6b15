// One member of a reduce-scatter or an all-gather, fed by hand: what it needs, what it writes, what it objects to; and shards of members that
// are no longer those there are.
#include "peer/shard.h"

#include <memory>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernel/hash.h"
#include "peer/engine.h"
#include "peer/one_hop_op.h"
#include "peer/ring_op.h"

namespace pccl::peer {
namespace {

using ::testing::Each;
using op::Collective;
using wire::FrameHeader;
using wire::FrameKind;

class NobodyListens final : public LinkOwner {
    void on_link_up(Link &) override {}
    void on_link_down(Link &, const std::string &) override {}
};

/// The first of two members that share 512 floats, half each. The other's frames are written here.
class HalfOwner : public testing::TestWithParam<op::Algorithm> {
protected:
    void start(Collective collective, bool in_place = false) {
        const bool scatters = collective == Collective::reduce_scatter;
        request.what.collective = collective;
        request.what.count = 512;
        request.what.type = op::Type::f32;
        request.shard = {0, 256};
        const auto at = [](std::vector<float> &v) { return reinterpret_cast<std::byte *>(v.data()); };
        std::vector<float> &from = scatters ? whole : part;
        request.send = at(in_place ? whole : from);
        request.recv = at(in_place ? whole : scatters ? part : whole);
        request.begin_undo();
        if (GetParam() == op::Algorithm::one_hop) {
            op = std::make_unique<OneHopOp>(OpId{}, request, 5, ring, 0, pool, links);
        } else {
            const collective::RingPlan plan(collective, collective::blocks_of(collective, 512, ring, op::kQuantBlock), sizeof(float), 0);
            op = std::make_unique<RingOp>(OpId{}, request, 5, ring, plan, pool);
        }
    }
    FrameHeader frame(FrameKind kind, std::uint32_t block) const {
        FrameHeader header;
        header.kind = kind;
        header.index = block;
        header.hop = GetParam() == op::Algorithm::one_hop ? 1 : 0;
        header.bytes = 256 * sizeof(float);
        header.checksum = kernel::checksum(theirs.data(), header.bytes);
        return header;
    }
    Received give(const FrameHeader &header) {
        EXPECT_STREQ(op->objection(PeerId{2}, header), nullptr);
        const Intake intake = op->intake(header);
        std::memcpy(intake.into, theirs.data(), header.bytes);
        return op->receive(header, intake.into, intake.keep);
    }
    static std::vector<float> half(const std::vector<float> &values, std::size_t which) {
        const auto begin = values.begin() + static_cast<std::ptrdiff_t>(which * 256);
        return {begin, begin + 256};
    }

    const std::vector<PeerId> ring{PeerId{1}, PeerId{2}};
    std::vector<float> whole = std::vector<float>(512, 1.0f), part = std::vector<float>(256, 3.0f), theirs = std::vector<float>(256, 2.0f);
    asio::io_context io;
    NobodyListens owner;
    Options options;
    LinkTable links{io, owner, options};
    BufferPool pool;
    ReduceRequest request;
    std::unique_ptr<Operation> op;
};

TEST_P(HalfOwner, OfAReduceScatterIsDoneWithItsOwnHalf) {
    start(Collective::reduce_scatter);
    EXPECT_FALSE(op->finished());
    EXPECT_EQ(give(frame(FrameKind::reduce_chunk, 0)), Received::last);
    EXPECT_TRUE(op->finished());
    EXPECT_THAT(part, Each(3.0f));
    EXPECT_THAT(whole, Each(1.0f));
}

TEST_P(HalfOwner, InPlaceKeepsWhatItOverwrites) {
    start(Collective::reduce_scatter, true);
    give(frame(FrameKind::reduce_chunk, 0));
    EXPECT_THAT(half(whole, 0), Each(3.0f));
    EXPECT_THAT(half(whole, 1), Each(1.0f));
    request.undo.restore();
    EXPECT_THAT(whole, Each(1.0f));
}

TEST_P(HalfOwner, OfAnAllGatherIsDoneWithTheOthersHalfAndPutsItsOwnInPlaceAtTheLatestWhenItIsCommitted) {
    start(Collective::all_gather);
    EXPECT_EQ(give(frame(FrameKind::gather_chunk, 1)), Received::last);
    EXPECT_TRUE(op->finished());
    op->settle();  // the other was lost before it took anything
    EXPECT_THAT(half(whole, 0), Each(3.0f));
    EXPECT_THAT(half(whole, 1), Each(2.0f));
    EXPECT_THAT(part, Each(3.0f));
}

TEST_P(HalfOwner, ObjectsToFramesThatItsCollectiveDoesNotHave) {
    start(Collective::reduce_scatter);
    EXPECT_NE(op->objection(PeerId{2}, frame(FrameKind::gather_chunk, 1)), nullptr);
    start(Collective::all_gather);
    EXPECT_NE(op->objection(PeerId{2}, frame(FrameKind::reduce_chunk, 0)), nullptr);
    EXPECT_NE(op->objection(PeerId{2}, frame(FrameKind::gather_chunk, 0)), nullptr) << "its own half";
    EXPECT_NE(op->objection(PeerId{2}, frame(FrameKind::reduce_credit, 1)), nullptr);
}

INSTANTIATE_TEST_SUITE_P(By, HalfOwner, testing::Values(op::Algorithm::ring, op::Algorithm::one_hop), [](const auto &by) {
    return by.param == op::Algorithm::ring ? std::string("Ring") : std::string("OneHop");
});

TEST(Shard, NamesItsMembersWhateverTheOrderOfTheRing) {
    const PeerId a{3}, b{7}, c{9};
    const Shard one = shard_of(100000, {a, b, c}, b), other = shard_of(100000, {c, a, b}, b);
    EXPECT_EQ(one.membership, other.membership);
    EXPECT_EQ(one.span, other.span);
    EXPECT_EQ(one.place, 1u);
    EXPECT_NE(shard_of(100000, {a, b, PeerId{10}}, b).membership, one.membership) << "as many members, but others";
    EXPECT_NE(shard_of(100000, {a, b}, b).membership, one.membership);
}

/// What the engine is told and tells.
struct Told final : EngineHost {
    void op_finished(const OpId &) override {}
    void op_broken(const OpId &, pcclResult_t result, const std::string &words, bool) override {
        code = result;
        why = words;
    }
    pcclResult_t code = pcclSuccess;
    std::string why;
};

class AnEngine : public testing::Test {
protected:
    /// Of a peer that asked for its shard when there were these members.
    pcclResult_t start(const std::vector<PeerId> &asked_among, const std::vector<PeerId> &ring) {
        const Shard shard = shard_of(4096, asked_among, PeerId{1});
        ReduceRequest request;
        request.what.count = 4096;
        request.what.type = op::Type::f32;
        request.what.collective = Collective::reduce_scatter;
        request.send = reinterpret_cast<const std::byte *>(whole.data());
        request.recv = reinterpret_cast<std::byte *>(part.data());
        request.shard = shard.span;
        request.membership = shard.membership;
        engine.start_epoch({ViewNumber{++epoch}, ring, 0, true, {}, {}}, PeerId{1});
        const OpId id{ViewNumber{epoch}, Tag{7}, 0};
        told = {};
        engine.start(id, request);
        engine.end(id, false);
        return told.code;
    }

    std::vector<float> whole = std::vector<float>(4096, 1.0f), part = std::vector<float>(4096, -1.0f);
    asio::io_context io;
    NobodyListens owner;
    Options options;
    LinkTable links{io, owner, options};
    Told told;
    Engine engine{told, links};
    std::uint64_t epoch = 0;
};

TEST_F(AnEngine, StartsWithAShardOfTheMembersThereAre) {
    EXPECT_EQ(start({PeerId{1}, PeerId{2}}, {PeerId{1}, PeerId{2}}), pcclSuccess);
    EXPECT_EQ(start({PeerId{1}, PeerId{2}, PeerId{3}}, {PeerId{1}, PeerId{3}, PeerId{2}}), pcclSuccess) << "the ring alone has changed";
}

TEST_F(AnEngine, FailsAShardOfOtherMembersAsALossBeforeAnythingMoves) {
    EXPECT_EQ(start({PeerId{1}, PeerId{2}, PeerId{3}}, {PeerId{1}, PeerId{2}}), pcclRankConnectionLost);
    EXPECT_NE(told.why.find("ask it again"), std::string::npos) << told.why;
    EXPECT_EQ(start({PeerId{1}, PeerId{2}}, {PeerId{1}, PeerId{3}}), pcclRankConnectionLost) << "as many, but others";
    EXPECT_THAT(part, Each(-1.0f));
}

}  // namespace
}  // namespace pccl::peer
