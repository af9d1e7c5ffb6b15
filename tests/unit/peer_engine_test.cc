// The engine of one peer: frames that arrive before their operation is posted, specs that differ, shards of other members, and
// repairs that do not match. The frames of the other member are written here.
#include "peer/engine.h"

#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "peer/shard.h"
#include "unit/peer_operation.h"

namespace pccl::peer {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using wire::FrameHeader;
using wire::FrameKind;

constexpr PeerId kSelf{1}, kOther{2};
constexpr std::size_t kCount = 512, kHalf = 256;

struct RecordingHost final : EngineHost {
    void op_finished(const OpId &op) override { finished.push_back(op); }
    void op_broken(const OpId &op, pcclResult_t result, const std::string &text, bool) override {
        broken.push_back(op);
        code = result;
        why = text;
    }
    std::vector<OpId> finished, broken;
    pcclResult_t code = pcclSuccess;
    std::string why;
};

/// Rank 0 of two members of a ring.
class EngineTest : public testing::Test {
protected:
    EngineTest() { begin_epoch({kSelf, kOther}); }

    void begin_epoch(const std::vector<PeerId> &ring, std::vector<wire::RepairedOp> repaired = {}) {
        protocol::StartEpoch start{ViewNumber{++epoch}, ring, 0, true, {}, {}};
        start.repaired = std::move(repaired);
        engine.start_epoch(start, kSelf);
    }
    OpId id(std::uint64_t tag = 7) const { return {ViewNumber{epoch}, Tag{tag}, 0}; }
    void set_sum() {
        request.spec.count = kCount;
        request.spec.type = op::Type::f32;
        request.spec.algorithm = op::Algorithm::ring;
        request.set_buffers(send.data(), recv.data());
    }
    FrameHeader header(FrameKind kind, std::uint32_t block = 0) const {
        FrameHeader h;
        h.kind = kind;
        h.epoch = epoch;
        h.tag = 7;
        h.index = block;
        return h;
    }
    /// Receives a frame as the link does: header first, then the payload, unless the header is dropped.
    Intake::Action arrive(FrameHeader h, const void *payload, std::size_t bytes) {
        h.bytes = static_cast<std::uint32_t>(bytes);
        h.checksum = kernel::checksum(payload, bytes);
        const Intake take = engine.prepare_receive(*link, h);
        if (take.action != Intake::Action::take) return take.action;
        if (bytes > 0) std::memcpy(take.into, payload, bytes);
        EXPECT_TRUE(engine.receive(*link, h, take.into, take.keep));
        return take.action;
    }
    Intake::Action open(const op::OperationSpec &spec) {
        wire::Bytes encoded;
        wire::Writer write(encoded);
        write(spec);
        return arrive(header(FrameKind::op_open), encoded.data(), encoded.size());
    }
    Intake::Action chunk(FrameKind kind, std::uint32_t block, float value) {
        FrameHeader h = header(kind, block);
        h.offset = hash_of(request.spec);
        const std::vector<float> values(kHalf, value);
        return arrive(h, values.data(), kHalf * sizeof(float));
    }

    std::vector<float> send = std::vector<float>(kCount, 1.0f), recv = std::vector<float>(kCount, -1.0f);
    asio::io_context io;
    SilentOwner owner;
    Options options;
    LinkTable links{io, owner, options};
    FrameConsumers consumers;
    std::shared_ptr<Link> link = std::make_shared<Link>(io, owner, consumers, wire::OpenLink{PeerId{}, 0, true, {}, 0, {}},
                                                        wire::LinkHello{{}, kSelf, kOther, 0, {}}, options, Duration{});
    RecordingHost host;
    Engine engine{host, links};
    ReduceRequest request;
    std::uint64_t epoch = 0;
};

TEST_F(EngineTest, ReplaysEarlyFramesWhenTheOperationIsPosted) {
    set_sum();
    EXPECT_EQ(open(request.spec), Intake::Action::take);
    EXPECT_EQ(chunk(FrameKind::reduce_chunk, 0, 2.0f), Intake::Action::take);
    EXPECT_EQ(link->eager_credit().frames_held(), 2u);
    EXPECT_THAT(recv, Each(-1.0f));
    engine.start(id(), request);
    EXPECT_EQ(link->eager_credit().frames_held(), 1u)
        << "the op_open counts on its link in the table, which this test does not have";
    EXPECT_EQ(recv[0], 3.0f);
    EXPECT_EQ(recv[kHalf - 1], 3.0f);
    EXPECT_TRUE(host.finished.empty());
    chunk(FrameKind::gather_chunk, 1, 3.0f);
    EXPECT_THAT(host.finished, testing::ElementsAre(id()));
    EXPECT_THAT(recv, Each(3.0f));
    engine.end(id(), true);
}

TEST_F(EngineTest, DropsFramesOfEndedOperations) {
    set_sum();
    engine.start(id(), request);
    engine.end(id(), false);
    EXPECT_NE(chunk(FrameKind::reduce_chunk, 0, 2.0f), Intake::Action::take);
    EXPECT_EQ(link->eager_credit().frames_held(), 0u);
}

TEST_F(EngineTest, ReleasesEarlyFramesOfOperationsThatNeverStart) {
    set_sum();
    chunk(FrameKind::reduce_chunk, 0, 2.0f);
    EXPECT_EQ(link->eager_credit().frames_held(), 1u);
    protocol::DropTags drop;
    drop.floor = 1;
    engine.drop_tags(drop);
    EXPECT_EQ(link->eager_credit().frames_held(), 0u);
}

TEST_F(EngineTest, FailsAnOperationWhoseSpecDiffers) {
    set_sum();
    engine.start(id(), request);
    auto theirs = request.spec;
    theirs.count = 100;
    theirs.op = op::Op::max;
    open(theirs);
    ASSERT_THAT(host.broken, testing::ElementsAre(id()));
    EXPECT_EQ(host.code, pcclInvalidUsage);
    EXPECT_THAT(host.why, HasSubstr("count 512"));
    EXPECT_THAT(host.why, HasSubstr("operator sum"));
    EXPECT_THAT(host.why, HasSubstr("count 100"));
    EXPECT_THAT(host.why, HasSubstr("operator max"));
    engine.end(id(), false);
}

TEST_F(EngineTest, FailsAnOperationWhoseSpecDiffersFromAnEarlyOne) {
    set_sum();
    auto theirs = request.spec;
    theirs.collective = op::Collective::reduce_scatter;
    open(theirs);
    engine.start(id(), request);
    ASSERT_THAT(host.broken, testing::ElementsAre(id()));
    EXPECT_THAT(host.why, HasSubstr("calls reduce-scatter"));
    engine.end(id(), false);
}

TEST_F(EngineTest, IgnoresChunksWithAnotherSpecHash) {
    set_sum();
    engine.start(id(), request);
    ReduceRequest theirs;
    theirs.spec = request.spec;
    theirs.spec.op = op::Op::max;
    FrameHeader h = header(FrameKind::reduce_chunk);
    h.offset = hash_of(theirs.spec);
    const std::vector<float> values(kHalf, 2.0f);
    EXPECT_NE(arrive(h, values.data(), kHalf * sizeof(float)), Intake::Action::take);
    EXPECT_THAT(recv, Each(-1.0f));
    engine.end(id(), false);
}

TEST_F(EngineTest, FailsOperationsWithOverlappingBuffers) {
    set_sum();
    engine.start(id(), request);
    ReduceRequest second;
    second.spec = request.spec;
    second.set_buffers(send.data(), recv.data());
    engine.start(id(8), second);
    ASSERT_THAT(host.broken, testing::ElementsAre(id(8)));
    EXPECT_THAT(host.why, HasSubstr("overlap those of the operation with tag 7"));
    engine.end(id(8), false);
    engine.end(id(), false);
}

TEST_F(EngineTest, FailsARepairWhoseFinalElementsDiffer) {
    set_sum();
    request.spec.on_peer_loss = op::LossPolicy::repair;
    request.spec.op = op::Op::avg;
    wire::RepairedOp repaired;
    repaired.tag = Tag{7};
    repaired.holdings = {{kSelf, {{0, 100, 3}}}};
    begin_epoch({kSelf, kOther}, {repaired});
    engine.start(id(), request);  // this member holds nothing final
    ASSERT_THAT(host.broken, testing::ElementsAre(id()));
    EXPECT_THAT(host.why, HasSubstr("other final elements"));
    engine.end(id(), false);
}

class StaleShard : public EngineTest {
protected:
    /// Starts a reduce-scatter with the shard that was computed for these members.
    pcclResult_t start(const std::vector<PeerId> &computed_for, const std::vector<PeerId> &ring) {
        const Shard shard = shard_of(kCount, computed_for, kSelf);
        ReduceRequest scatter;
        scatter.spec.count = kCount;
        scatter.spec.type = op::Type::f32;
        scatter.spec.collective = op::Collective::reduce_scatter;
        scatter.shard = shard.span;
        scatter.membership = shard.membership;
        scatter.set_buffers(send.data(), recv.data());
        begin_epoch(ring);
        host = {};
        engine.start(id(), scatter);
        engine.end(id(), false);
        return host.code;
    }
};

TEST_F(StaleShard, IsNotReportedForAnotherOrderOfTheMembers) {
    EXPECT_EQ(start({kSelf, kOther}, {kSelf, kOther}), pcclSuccess);
    EXPECT_EQ(start({kSelf, kOther, PeerId{3}}, {kSelf, PeerId{3}, kOther}), pcclSuccess);
}

TEST_F(StaleShard, FailsAsALossBeforeAnyElementIsWritten) {
    EXPECT_EQ(start({kSelf, kOther, PeerId{3}}, {kSelf, kOther}), pcclRankConnectionLost);
    EXPECT_THAT(host.why, HasSubstr("call it again"));
    EXPECT_EQ(start({kSelf, kOther}, {kSelf, PeerId{3}}), pcclRankConnectionLost) << "equally many members, but others";
    EXPECT_THAT(recv, Each(-1.0f));
}

}  // namespace
}  // namespace pccl::peer
