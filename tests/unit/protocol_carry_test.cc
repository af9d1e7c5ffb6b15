// Calls that continue when members are lost: which calls continue, and how a peer carries them into the next epoch.
#include "protocol/carry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "unit/protocol_peer.h"

namespace pccl::protocol {
namespace {

using Carried = std::map<PeerId, std::vector<wire::CarriedOp>>;
using Begun = std::map<Tag, std::uint32_t>;

const op::FinalRanges kSome{{0, 100, 3}, {200, 50, 3}};

TEST(EndCalls, CallThatAllCallersCarryOverContinues) {
    const EpochOutcome ended =
        end_calls({}, Carried{{PeerId{1}, {{Tag{5}, 2, kSome}}}, {PeerId{2}, {{Tag{5}, 2, {}}}}, {PeerId{3}, {}}});
    EXPECT_TRUE(ended.begun.empty());
    ASSERT_EQ(ended.repaired.size(), 1u);
    EXPECT_EQ(ended.repaired[0], (wire::RepairedOp{Tag{5}, 2, {{PeerId{1}, kSome}}}));
}

TEST(EndCalls, CallThatOneCallerGaveUpFailsForAll) {
    const EpochOutcome ended = end_calls(Begun{{Tag{5}, 3}}, Carried{{PeerId{1}, {{Tag{5}, 2, kSome}}}});
    EXPECT_TRUE(ended.repaired.empty());
    ASSERT_EQ(ended.begun.size(), 1u);
    EXPECT_EQ(ended.begun[0].next_seq, 3u);
}

TEST(EndCalls, OnlyTheLastCallWithATagContinues) {
    // Peer 2 gave up number 2 and has begun number 3.
    const EpochOutcome ended = end_calls({}, Carried{{PeerId{1}, {{Tag{5}, 2, kSome}}}, {PeerId{2}, {{Tag{5}, 3, {}}}}});
    ASSERT_EQ(ended.repaired.size(), 1u);
    EXPECT_EQ(ended.repaired[0], (wire::RepairedOp{Tag{5}, 3, {}}));
    const EpochOutcome earlier = end_calls(Begun{{Tag{5}, 2}}, Carried{{PeerId{1}, {{Tag{5}, 2, kSome}}}});
    EXPECT_EQ(earlier.repaired.size(), 1u) << "a member that has not begun it joins it later";
}

TEST(EndCalls, TagsAreIndependent) {
    const EpochOutcome ended = end_calls(Begun{{Tag{6}, 1}}, Carried{{PeerId{1}, {{Tag{5}, 0, kSome}, {Tag{7}, 0, {}}}}});
    ASSERT_EQ(ended.begun.size(), 1u);
    EXPECT_EQ(ended.begun[0].tag, Tag{6});
    EXPECT_EQ(ended.repaired.size(), 2u);
}

TEST(CarriedOps, ImpossibleListsAreRejected) {
    EXPECT_TRUE(well_formed({{Tag{5}, 0, kSome}, {Tag{6}, 0, kSome}}));
    EXPECT_FALSE(well_formed({{Tag{5}, 0, kSome}, {Tag{5}, 1, kSome}})) << "a tag twice";
    EXPECT_FALSE(well_formed({{Tag{5}, 0, {{0, 10, 3}, {5, 10, 3}}}})) << "overlapping ranges";
    EXPECT_FALSE(well_formed({{Tag{5}, UINT32_MAX, {}}}));
    op::FinalRanges many;
    for (std::uint64_t i = 0; i < wire::kMaxFinalRanges; ++i)
        many.push_back({2 * i, 1, 3});
    EXPECT_TRUE(well_formed({{Tag{5}, 0, many}}));
    EXPECT_FALSE(well_formed({{Tag{5}, 0, many}, {Tag{6}, 0, kSome}})) << "too many ranges in total";
}

/// Peer 1, a member of a group of two or more.
class CarryingPeer : public PeerTest {
protected:
    CarryingPeer() { join(); }

    void view(std::uint64_t number, std::vector<wire::RepairedOp> repaired = {}, std::vector<wire::TagCount> begun = {},
              std::vector<PeerId> ring = {PeerId{1}, PeerId{2}}) {
        PeerTest::view(number, std::move(begun), std::move(ring), std::move(repaired));
    }
    CallId reduce(std::uint64_t tag, op::LossPolicy fault = op::LossPolicy::repair) { return PeerTest::reduce(tag, fault); }
    std::vector<wire::Frozen> frozen() { return sent<wire::Frozen>(); }
    std::vector<OpId> started() {
        std::vector<OpId> ops;
        for (const auto &start : effects<StartOp>())
            ops.push_back(start.op);
        return ops;
    }
};

TEST_F(CarryingPeer, ContinuesItsCallInTheNextEpoch) {
    const CallId call = reduce(5);
    receive(wire::Freeze{7, "lost"});
    ASSERT_EQ(effects<CarryOps>().size(), 1u);
    EXPECT_EQ(effects<CarryOps>()[0].ops, std::vector{op(1, 5, 0)});
    EXPECT_TRUE(effects<EndOp>().empty());
    EXPECT_TRUE(frozen().empty()) << "the final elements are not known yet";
    step(OpsCarried{{{Tag{5}, 0, kSome}}});
    ASSERT_EQ(frozen().size(), 1u);
    EXPECT_TRUE(frozen()[0].opened.empty());
    ASSERT_EQ(frozen()[0].carried.size(), 1u);
    EXPECT_EQ(frozen()[0].carried[0].final, kSome);
    step(OpFinished{op(1, 5, 0)});
    view(2, {{Tag{5}, 0, {{PeerId{1}, kSome}}}});
    EXPECT_FALSE(outcome(call));
    EXPECT_EQ(started(), (std::vector{op(1, 5, 0), op(2, 5, 0)}));
    EXPECT_EQ(effects<StartEpoch>().back().repaired.size(), 1u);
    step(OpFinished{op(2, 5, 0)});
    receive(wire::Commit{{op(2, 5, 0)}});
    EXPECT_EQ(outcome(call), pcclSuccess);
    EXPECT_FALSE(outcome(reduce(5)));
    EXPECT_EQ(started().back(), op(2, 5, 1));
}

TEST_F(CarryingPeer, FailsACallThatTheViewDoesNotName) {
    const CallId call = reduce(5);
    receive(wire::Freeze{7, "lost"});
    step(OpsCarried{{{Tag{5}, 0, kSome}}});
    view(2, {}, {{Tag{5}, 1}});
    EXPECT_EQ(outcome(call), pcclRankConnectionLost);
    EXPECT_FALSE(outcome(reduce(5)));
}

TEST_F(CarryingPeer, JoinsACarriedCallOfOtherMembers) {
    receive(wire::Freeze{7, "lost"});
    view(2, {{Tag{5}, 0, {}}});
    const CallId call = reduce(5);
    EXPECT_FALSE(outcome(call));
    EXPECT_EQ(started().back(), op(2, 5, 0));
}

TEST_F(CarryingPeer, FailsCallsThatPrecedeTheCarriedOne) {
    receive(wire::OpFailed{op(1, 5, 0), pcclInvalidUsage, false, "they disagree"});
    receive(wire::Freeze{7, "lost"});
    view(2, {{Tag{5}, 1, {}}});
    EXPECT_EQ(outcome(reduce(5)), pcclInvalidUsage);
    EXPECT_FALSE(outcome(reduce(5)));
    EXPECT_EQ(started().back(), op(2, 5, 0));
}

TEST_F(CarryingPeer, AbortDuringAFreezeGivesTheCallUp) {
    const CallId call = reduce(5);
    receive(wire::Freeze{7, "lost"});
    step(AbortCalls{});
    EXPECT_EQ(outcome(call), pcclRankConnectionLost);
    step(OpsCarried{{{Tag{5}, 0, kSome}}});
    ASSERT_EQ(frozen().size(), 1u) << "the answer to the master carries no call";
    EXPECT_TRUE(frozen()[0].carried.empty());
    ASSERT_EQ(frozen()[0].opened.size(), 1u);
    EXPECT_EQ(frozen()[0].opened[0].next_seq, 1u);
}

TEST_F(CarryingPeer, TagOfACarriedCallStaysInUse) {
    reduce(5);
    receive(wire::Freeze{7, "lost"});
    EXPECT_EQ(outcome(reduce(5)), pcclInvalidUsage);
    const CallId update{next_call_++};
    step(UpdateTopology{update});
    EXPECT_EQ(outcome(update), pcclPendingAsyncOps);
    const CallId other = reduce(6, op::LossPolicy::retry);
    EXPECT_FALSE(outcome(other));
    step(OpsCarried{{{Tag{5}, 0, {}}}});
    view(2, {{Tag{5}, 0, {}}});
    EXPECT_EQ(started().back(), op(2, 6, 0));
}

TEST_F(CarryingPeer, FinishesItsCallAsTheOnlySurvivor) {
    const CallId call = reduce(5);
    receive(wire::Freeze{7, "lost"});
    step(OpsCarried{{{Tag{5}, 0, kSome}}});
    view(2, {{Tag{5}, 0, {{PeerId{1}, kSome}}}}, {}, {PeerId{1}});
    EXPECT_EQ(started().back(), op(2, 5, 0));
    step(OpFinished{op(2, 5, 0)});
    receive(wire::Commit{{op(2, 5, 0)}});
    EXPECT_EQ(outcome(call), pcclSuccess);
    EXPECT_EQ(outcome(reduce(5)), pcclTooFewPeers);
}

TEST_F(CarryingPeer, TooManyRangesAreNotCarried) {
    const CallId small = reduce(5), large = reduce(6);
    receive(wire::Freeze{7, "lost"});
    op::FinalRanges many;
    for (std::uint64_t i = 0; i < wire::kMaxFinalRanges; ++i)
        many.push_back({2 * i, 1, 2});
    step(OpsCarried{{{Tag{5}, 0, kSome}, {Tag{6}, 0, many}}});
    ASSERT_EQ(frozen().size(), 1u);
    ASSERT_EQ(frozen()[0].carried.size(), 1u);
    EXPECT_EQ(frozen()[0].carried[0].tag, Tag{5});
    view(2, {{Tag{5}, 0, {}}}, {{Tag{6}, 1}});
    EXPECT_FALSE(outcome(small));
    EXPECT_EQ(outcome(large), pcclRankConnectionLost);
}

TEST_F(CarryingPeer, EndOfTheMembershipEndsCarriedCalls) {
    const CallId call = reduce(5);
    receive(wire::Freeze{7, "lost"});
    step(MasterDown{"gone"});
    EXPECT_EQ(outcome(call), pcclMasterConnectionFailed);
    step(OpsCarried{{{Tag{5}, 0, kSome}}});
    EXPECT_TRUE(frozen().empty());
}

}  // namespace
}  // namespace pccl::protocol
