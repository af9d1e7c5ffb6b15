// How a group forgets tags: message by message at a peer, at the master, and at a master that was restarted.
#include "protocol/tag_round.h"

#include <gmock/gmock.h>

#include "protocol_master.h"
#include "protocol_peer.h"

namespace pccl::protocol {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class PeerTags : public PeerTest {
protected:
    void succeed(std::uint64_t tag, std::uint32_t seq) {
        reduce(tag);
        step(OpFinished{op(1, tag, seq)});
        receive(wire::Commit{{op(1, tag, seq)}});
    }
    OpId last_started() { return effects<StartOp>().back().op; }
};

TEST_F(PeerTags, ForgottenTagIsNumberedFromTheFloor) {
    join();
    for (std::uint64_t tag = 10; tag < 20; ++tag)
        succeed(tag, 0);
    succeed(10, 1);
    EXPECT_EQ(peer_.tags_known(), 10u);
    receive(wire::AskTags{1});
    ASSERT_EQ(sent<wire::TagsInUse>().size(), 1u);
    EXPECT_EQ(sent<wire::TagsInUse>()[0].next_seq, 2u);
    EXPECT_THAT(sent<wire::TagsInUse>()[0].tags, IsEmpty());
    receive(wire::ForgetTags{1, 2, {}});
    EXPECT_EQ(peer_.tags_known(), 0u);
    EXPECT_EQ(effects<DropTags>().back().floor, 2u);
    reduce(10);
    EXPECT_EQ(last_started(), op(1, 10, 2));
    reduce(99);
    EXPECT_EQ(last_started(), op(1, 99, 2));
}

TEST_F(PeerTags, CallMadeDuringARoundBeginsAfterIt) {
    join();
    succeed(10, 0);
    receive(wire::AskTags{1});
    const auto started = effects<StartOp>().size();
    const CallId held = reduce(10);
    EXPECT_EQ(effects<StartOp>().size(), started);
    EXPECT_EQ(outcome(reduce(10)), pcclInvalidUsage) << "the tag is in use";
    receive(wire::ForgetTags{1, 1, {}});
    EXPECT_EQ(effects<StartOp>().size(), started + 1);
    EXPECT_EQ(last_started(), op(1, 10, 1));
    step(OpFinished{op(1, 10, 1)});
    receive(wire::Commit{{op(1, 10, 1)}});
    EXPECT_EQ(outcome(held), pcclSuccess);
}

TEST_F(PeerTags, OpenOperationIsNamedAndKeepsItsNumber) {
    join();
    succeed(10, 0);
    reduce(10);
    succeed(11, 0);
    receive(wire::AskTags{1});
    EXPECT_THAT(sent<wire::TagsInUse>().back().tags, ElementsAre(Tag{10}));
    EXPECT_EQ(sent<wire::TagsInUse>().back().next_seq, 1u) << "the number for tags that are not in use";
    receive(wire::ForgetTags{1, 1, {Tag{10}}});
    step(OpFinished{op(1, 10, 1)});
    receive(wire::Commit{{op(1, 10, 1)}});
    reduce(10);
    EXPECT_EQ(last_started(), op(1, 10, 2));
}

TEST_F(PeerTags, TagInUseElsewhereKeepsTheOldFloor) {
    join();
    succeed(10, 0);
    receive(wire::AskTags{1});
    receive(wire::ForgetTags{1, 1, {Tag{77}}});
    reduce(77);  // another member had begun it as its first call
    EXPECT_EQ(last_started(), op(1, 77, 0));
}

TEST_F(PeerTags, OperationThatFailedBeforeItWasCalledIsNamed) {
    join();
    receive(wire::OpFailed{op(1, 6, 0), pcclInvalidUsage, false, "mismatch"});
    receive(wire::AskTags{1});
    EXPECT_THAT(sent<wire::TagsInUse>().back().tags, ElementsAre(Tag{6}));
    receive(wire::ForgetTags{1, 3, {Tag{6}}});
    EXPECT_EQ(outcome(reduce(6)), pcclInvalidUsage);
}

TEST_F(PeerTags, TagOfAFailedOperationIsForgotten) {
    join();
    const CallId call = reduce(6);
    receive(wire::OpFailed{op(1, 6, 0), pcclInvalidUsage, false, "mismatch"});
    EXPECT_EQ(outcome(call), pcclInvalidUsage);
    receive(wire::OpFailed{op(1, 7, 0), pcclInvalidUsage, false, "mismatch"});
    EXPECT_EQ(outcome(reduce(7)), pcclInvalidUsage);
    receive(wire::AskTags{1});
    EXPECT_THAT(sent<wire::TagsInUse>().back().tags, IsEmpty());
    receive(wire::ForgetTags{1, 1, {}});
    EXPECT_EQ(peer_.tags_known(), 0u);
    receive(wire::OpFailed{op(1, 6, 0), pcclInvalidUsage, false, "mismatch"});  // again, from a master that was restarted
    EXPECT_EQ(peer_.tags_known(), 0u);
}

TEST_F(PeerTags, CallThatFailedElsewhereStillFailsHere) {
    join();
    reduce(7);
    step(OpFinished{op(1, 7, 0)});
    receive(wire::Freeze{1, "because"});
    view(2, {{Tag{5}, 1}});
    receive(wire::AskTags{1});
    EXPECT_THAT(sent<wire::TagsInUse>().back().tags, IsEmpty());
    receive(wire::ForgetTags{1, 4, {}});
    EXPECT_EQ(outcome(reduce(5)), pcclRankConnectionLost);
    reduce(5);
    EXPECT_EQ(last_started(), op(2, 5, 4));
}

TEST_F(PeerTags, OperationThatFailedElsewhereIsCountedFromTheFloor) {
    join();
    receive(wire::AskTags{1});
    receive(wire::ForgetTags{1, 4, {}});
    receive(wire::OpFailed{op(1, 6, 4), pcclInvalidUsage, false, "mismatch"});
    EXPECT_EQ(outcome(reduce(6)), pcclInvalidUsage);
    reduce(6);
    EXPECT_EQ(last_started(), op(1, 6, 5));
}

TEST_F(PeerTags, FreezeEndsARoundAndTheFloor) {
    join();
    succeed(10, 0);
    receive(wire::AskTags{1});
    receive(wire::ForgetTags{1, 9, {}});
    receive(wire::AskTags{2});
    const CallId held = reduce(3);
    receive(wire::Freeze{1, "because"});
    EXPECT_FALSE(outcome(held));
    view(2);
    EXPECT_EQ(last_started(), op(2, 3, 0));
}

TEST_F(PeerTags, ViewCountsFailuresFromTheFloor) {
    join();
    receive(wire::AskTags{1});
    receive(wire::ForgetTags{1, 4, {}});
    receive(wire::Freeze{1, "because"});
    view(2, {{Tag{5}, 5}});
    EXPECT_EQ(outcome(reduce(5)), pcclRankConnectionLost);
    EXPECT_FALSE(outcome(reduce(5))) << "another member had begun one call, not five";
}

TEST_F(PeerTags, RoundIsReceivedTwiceAfterARestart) {
    join();
    succeed(10, 0);
    receive(wire::AskTags{1});
    receive(wire::ForgetTags{1, 1, {}});
    succeed(10, 1);
    receive(wire::ForgetTags{1, 1, {}});
    reduce(10);
    EXPECT_EQ(last_started(), op(1, 10, 2));
}

TEST_F(PeerTags, CallOfALonePeerLeavesNoTag) {
    join();
    view(2, {}, {PeerId{1}});
    for (std::uint64_t tag = 0; tag < 100; ++tag)
        EXPECT_EQ(outcome(reduce(tag)), pcclTooFewPeers);
    EXPECT_EQ(peer_.tags_known(), 0u);
}

TEST(TagRound, KeepsTagsThatAnyMemberUses) {
    TagRound round(3, {PeerId{1}, PeerId{2}});
    round.answer(PeerId{1}, {3, 7, false, {Tag{9}, Tag{4}}});
    round.answer(PeerId{1}, {3, 70, false, {Tag{1}}});  // it has answered already
    round.answer(PeerId{2}, {2, 70, false, {}});        // the answer to another round
    EXPECT_FALSE(round.answered());
    round.answer(PeerId{2}, {3, 6, false, {Tag{5}}});
    ASSERT_TRUE(round.answered());
    EXPECT_EQ(round.outcome(2).floor, 7u);
    EXPECT_THAT(round.outcome(2).keep, ElementsAre(Tag{4}, Tag{5}, Tag{9}));
    EXPECT_EQ(round.outcome(8).floor, 8u);
}

TEST(TagRound, ForgetsNothingIfTooManyAreInUse) {
    TagRound round(1, {PeerId{1}, PeerId{2}});
    wire::TagsInUse many{1, 5, false, {}};
    for (std::uint64_t tag = 0; tag < wire::kMaxOpsInMessage; ++tag)
        many.tags.push_back(Tag{tag});
    round.answer(PeerId{1}, many);
    round.answer(PeerId{2}, {1, 5, false, {Tag{UINT64_MAX}}});
    EXPECT_EQ(round.outcome(2).floor, 2u);
    EXPECT_THAT(round.outcome(2).keep, IsEmpty());

    TagRound another(1, {PeerId{1}});
    another.answer(PeerId{1}, {1, 5, true, {}});
    EXPECT_EQ(another.outcome(2).floor, 2u);
}

class MasterTags : public MasterTest {
protected:
    /// Commits the next `count` operations, each with a new tag.
    void commit_fresh(const std::vector<ConnId> &all, std::uint64_t count, std::uint32_t seq = 0) {
        for (std::uint64_t i = 0; i < count; ++i, ++tag_) {
            for (const ConnId conn : all)
                send(conn, wire::Done{{op(conn, tag_, seq)}});
        }
    }
    const std::uint64_t limit_ = MasterOptions{}.idle_tags;
    std::uint64_t tag_ = 1000;
};

TEST_F(MasterTags, RoundBeginsOnceEnoughTagsAreKnown) {
    const auto all = members(2);
    commit_fresh(all, limit_ - 1);
    EXPECT_EQ(received<wire::AskTags>(all[0]).size(), 0u);
    commit_fresh(all, 1);
    for (const ConnId conn : all)
        EXPECT_EQ(received<wire::AskTags>(conn).size(), 1u);
    send(all[0], wire::TagsInUse{1, 1, false, {Tag{3}}});
    EXPECT_EQ(received<wire::ForgetTags>(all[0]).size(), 0u);
    send(all[1], wire::TagsInUse{1, 1, false, {}});
    for (const ConnId conn : all) {
        ASSERT_EQ(received<wire::ForgetTags>(conn).size(), 1u);
        EXPECT_EQ(received<wire::ForgetTags>(conn)[0].floor, 1u);
        EXPECT_THAT(received<wire::ForgetTags>(conn)[0].keep, ElementsAre(Tag{3}));
    }
    commit_fresh(all, limit_, 1);
    EXPECT_EQ(received<wire::AskTags>(all[0]).size(), 2u);
}

TEST_F(MasterTags, RepeatedTagsNeedNoRound) {
    const auto all = members(2);
    for (std::uint32_t seq = 0; seq < 2 * limit_; ++seq) {
        for (const ConnId conn : all)
            send(conn, wire::Done{{op(conn, 1, seq)}});
    }
    EXPECT_EQ(received<wire::AskTags>(all[0]).size(), 0u);
}

TEST_F(MasterTags, LossOfAMemberEndsARound) {
    const auto all = members(3);
    commit_fresh(all, limit_);
    send(all[0], wire::TagsInUse{1, 1, false, {}});
    send(all[1], wire::TagsInUse{1, 1, false, {}});
    lose(all[2]);
    EXPECT_EQ(received<wire::ForgetTags>(all[0]).size(), 0u);
    thaw({all[0], all[1]});
    send(all[0], wire::TagsInUse{1, 1, false, {}});  // the round is over
    EXPECT_EQ(received<wire::ForgetTags>(all[0]).size(), 0u);
    commit_fresh({all[0], all[1]}, limit_);
    EXPECT_EQ(received<wire::AskTags>(all[0]).back().round, 1u) << "each epoch counts its rounds from 1";
    EXPECT_EQ(received<wire::AskTags>(all[0]).size(), 2u);
}

}  // namespace
}  // namespace pccl::protocol
