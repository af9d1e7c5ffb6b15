// A peer's side of the protocol, message by message: how its calls end, and which calls fail because they failed at other
// members.
#include "unit/protocol_peer.h"

#include <algorithm>

namespace pccl::protocol {

/// Breaks an invariant that no input can break.
struct PeerTestAccess {
    static void lose_commit_count(Peer &peer) { peer.commits_ = 0; }
};

namespace {

TEST_F(PeerTest, BrokenInvariantFailsTheCommunicator) {
    join(true);
    const CallId first = reduce(5), second = reduce(6);
    step(OpFinished{op(1, 5, 0)});
    receive(wire::Commit{{op(1, 5, 0)}});
    PeerTestAccess::lose_commit_count(peer_);
    abort_on_broken_invariants(false);  // as in a trainer's process
    receive(wire::Heartbeat{ViewNumber{1}, 0});
    abort_on_broken_invariants(true);
    EXPECT_EQ(outcome(first), pcclSuccess);
    EXPECT_EQ(outcome(second), pcclInternalError);
    EXPECT_NE(effects<Complete>().back().why.find("broken invariant: commits_ >= recent_.size()"), std::string::npos);
    EXPECT_EQ(effects<HangUp>().size(), 1U);
    EXPECT_EQ(effects<DropAllLinks>().size(), 1U);
}

TEST_F(PeerTest, BrokenInvariantAbortsACheckedProcess) {
    join(true);
    reduce(5);
    step(OpFinished{op(1, 5, 0)});
    receive(wire::Commit{{op(1, 5, 0)}});
    PeerTestAccess::lose_commit_count(peer_);
    EXPECT_DEATH(receive(wire::Heartbeat{}), "broken invariant: recent_.size\\(\\) <= commits_");
}

TEST_F(PeerTest, SurvivesAMasterThatDropsTheTagOfAnOpenOperation) {
    join();
    const CallId call = reduce(5);
    receive(wire::ForgetTags{1, 9, {}});
    receive(wire::OpFailed{op(1, 5, 0), pcclInvalidUsage, false, "test", {}});
    EXPECT_EQ(outcome(call), pcclInvalidUsage);
}

TEST_F(PeerTest, CommitEndsTheOperationAndThenTheCall) {
    join();
    const CallId call = reduce(5);
    ASSERT_EQ(effects<StartOp>().size(), 1u);
    step(OpFinished{op(1, 5, 0)});
    step(OpFinished{op(1, 5, 0)});
    EXPECT_EQ(sent<wire::Done>().size(), 1u);
    receive(wire::Commit{{op(1, 5, 0)}});
    receive(wire::Commit{{op(1, 5, 0)}});
    EXPECT_EQ(outcome(call), pcclSuccess);
    const auto end = std::ranges::find_if(all_, [](const auto &e) { return std::holds_alternative<EndOp>(e); });
    const auto complete = std::ranges::find_if(all_, [&](const auto &e) {
        const auto *c = std::get_if<Complete>(&e);
        return c && c->call == call;
    });
    EXPECT_LT(end - all_.begin(), complete - all_.begin());
}

TEST_F(PeerTest, FreezeEndsOperationsAndTheViewTheirCalls) {
    join();
    const CallId call = reduce(5);
    receive(wire::Freeze{7, "lost"});
    EXPECT_EQ(effects<EndOp>().size(), 1u);
    EXPECT_FALSE(outcome(call));
    const auto frozen = sent<wire::Frozen>();
    ASSERT_EQ(frozen.size(), 1u);
    ASSERT_EQ(frozen[0].opened.size(), 1u);
    EXPECT_EQ(frozen[0].opened[0].next_seq, 1u);
    const CallId held = reduce(6);
    view(2, {{Tag{5}, 1}});
    EXPECT_EQ(outcome(call), pcclRankConnectionLost);
    EXPECT_FALSE(outcome(held));
    EXPECT_EQ(effects<StartOp>().back().op, op(2, 6, 0));
}

TEST_F(PeerTest, CallThatOthersHadBegunFailsOnceWhenMade) {
    join();
    receive(wire::Freeze{7, "lost"});
    view(2, {{Tag{5}, 1}});
    EXPECT_EQ(outcome(reduce(5)), pcclRankConnectionLost);
    EXPECT_FALSE(outcome(reduce(5)));
    EXPECT_EQ(effects<StartOp>().back().op, op(2, 5, 0));
}

TEST_F(PeerTest, PendingFailuresOutlastTheNextView) {
    join();
    receive(wire::Freeze{7, "lost"});
    view(2, {{Tag{5}, 1}});
    receive(wire::Freeze{8, "lost again"});
    EXPECT_TRUE(sent<wire::Frozen>().back().opened.empty());
    view(3, {{Tag{5}, 1}});  // the other members called again, and failed again
    EXPECT_EQ(outcome(reduce(5)), pcclRankConnectionLost);
    EXPECT_EQ(outcome(reduce(5)), pcclRankConnectionLost);
    EXPECT_FALSE(outcome(reduce(5)));
}

TEST_F(PeerTest, CommittedCallLeavesNoPendingFailure) {
    join();
    reduce(5);
    step(OpFinished{op(1, 5, 0)});
    receive(wire::Commit{{op(1, 5, 0)}});
    receive(wire::Freeze{7, "lost"});
    EXPECT_TRUE(sent<wire::Frozen>().back().opened.empty());
    view(2, {{Tag{5}, 2}});  // another member had begun the second call
    EXPECT_EQ(outcome(reduce(5)), pcclRankConnectionLost);
    EXPECT_FALSE(outcome(reduce(5)));
}

TEST_F(PeerTest, AllOperationsThatFailedBeforeTheirCallFail) {
    join();
    receive(wire::OpFailed{op(1, 5, 0), pcclInvalidUsage, false, "mismatch"});
    receive(wire::OpFailed{op(1, 5, 1), pcclInvalidUsage, false, "mismatch"});
    EXPECT_EQ(outcome(reduce(5)), pcclInvalidUsage);
    EXPECT_EQ(outcome(reduce(5)), pcclInvalidUsage);
    EXPECT_FALSE(outcome(reduce(5)));
    EXPECT_EQ(effects<StartOp>().back().op, op(1, 5, 2));
}

TEST_F(PeerTest, OwnFaultHasItsCodeOnlyAtTheCulprit) {
    join();
    const CallId mine = reduce(5), theirs = reduce(6);
    step(OpBroken{op(1, 5, 0), pcclInvalidUsage, "sendbuff was modified", true});
    ASSERT_EQ(sent<wire::OpFault>().size(), 1U);
    EXPECT_TRUE(sent<wire::OpFault>()[0].own);
    receive(wire::OpFailed{op(1, 5, 0), pcclInvalidUsage, false, "sendbuff was modified", peer_.id()});
    receive(wire::OpFailed{op(1, 6, 0), pcclInvalidUsage, false, "sendbuff was modified", PeerId{99}});
    receive(wire::OpFailed{op(1, 7, 0), pcclInvalidUsage, false, "sendbuff was modified", PeerId{99}});
    EXPECT_EQ(outcome(mine), pcclInvalidUsage);
    EXPECT_EQ(outcome(theirs), pcclRankConnectionLost);
    EXPECT_EQ(outcome(reduce(7)), pcclRankConnectionLost);  // the call is made after its failure
}

TEST_F(PeerTest, SpoiledOfferIsReportedDuringASynchronizationOnly) {
    join();
    step(OfferSpoiled{3, "tensor 'w' was modified"});
    EXPECT_TRUE(sent<wire::StateFault>().empty());
    step(Synchronize{CallId{50}, {}});
    step(OfferSpoiled{3, "tensor 'w' was modified"});
    ASSERT_EQ(sent<wire::StateFault>().size(), 1U);
    EXPECT_EQ(sent<wire::StateFault>()[0].sync, 3U);
}

TEST_F(PeerTest, FailureBeforeTheCallOutlastsAView) {
    join();
    receive(wire::OpFailed{op(1, 5, 0), pcclInvalidUsage, false, "mismatch"});
    receive(wire::Freeze{7, "lost"});
    view(2, {{Tag{5}, 2}});  // the members that received the failure called again, and lost that call
    EXPECT_EQ(outcome(reduce(5)), pcclInvalidUsage);
    EXPECT_EQ(outcome(reduce(5)), pcclRankConnectionLost);
    EXPECT_FALSE(outcome(reduce(5)));
}

TEST_F(PeerTest, UpdateTopologyClearsPendingFailures) {
    join();
    receive(wire::Freeze{7, "lost"});
    view(2, {{Tag{5}, 3}});
    receive(wire::OpFailed{op(2, 6, 0), pcclInvalidUsage, false, "mismatch"});
    step(UpdateTopology{CallId{50}});
    receive(wire::CallDone{wire::Call::update_topology, sent<wire::VoteUpdate>().back().call, pcclSuccess, 2, ""});
    EXPECT_FALSE(outcome(reduce(5)));
    reduce(6);
    EXPECT_EQ(effects<StartOp>().back().op, op(2, 6, 1));
}

TEST_F(PeerTest, OldViewsAndViewsOfOthersAreIgnored) {
    join();
    view(4);
    const auto epochs = effects<StartEpoch>().size();
    view(3);
    view(4);
    view(9, {}, {PeerId{2}, PeerId{3}});
    EXPECT_EQ(effects<StartEpoch>().size(), epochs);
    EXPECT_EQ(peer_.view(), ViewNumber{4});
}

TEST_F(PeerTest, ReduceOfALonePeerFails) {
    join();
    view(2, {}, {PeerId{1}});
    EXPECT_EQ(outcome(reduce(5)), pcclTooFewPeers);
}

TEST_F(PeerTest, CallsThatNeedAnIdlePeerFailWithAReason) {
    EXPECT_EQ(outcome(reduce(5)), pcclInvalidUsage);  // not connected
    join();
    reduce(5);
    EXPECT_EQ(outcome(reduce(5)), pcclInvalidUsage);  // the tag is in use
    step(UpdateTopology{CallId{50}});
    EXPECT_EQ(outcome(CallId{50}), pcclPendingAsyncOps);
    step(OpFinished{op(1, 5, 0)});
    receive(wire::Commit{{op(1, 5, 0)}});
    step(UpdateTopology{CallId{51}});
    step(OptimizeTopology{CallId{52}});
    EXPECT_EQ(outcome(CallId{52}), pcclInvalidUsage);
    EXPECT_EQ(outcome(reduce(6)), pcclInvalidUsage);
    EXPECT_FALSE(outcome(CallId{51}));
}

TEST_F(PeerTest, OnlyWaitingOperationsAreReported) {
    join();
    reduce(5);
    reduce(6);
    step(OpFinished{op(1, 6, 0)});
    now_ = now_ + 200ms;
    step(PeerTick{});
    ASSERT_EQ(sent<wire::Waiting>().size(), 1u);
    EXPECT_EQ(sent<wire::Waiting>()[0].ops, std::vector{op(1, 5, 0)});
    receive(wire::Commit{{op(1, 6, 0)}});
    step(OpFinished{op(1, 5, 0)});
    receive(wire::Commit{{op(1, 5, 0)}});
    EXPECT_TRUE(sent<wire::Waiting>().back().ops.empty());
}

TEST_F(PeerTest, AbortReturnsEveryCallAndIgnoresLateAnswers) {
    join();
    const CallId call = reduce(5);
    step(ArePending{CallId{60}});
    step(AbortCalls{});
    EXPECT_EQ(outcome(call), pcclRankConnectionLost);
    EXPECT_EQ(outcome(CallId{60}), pcclRankConnectionLost);
    EXPECT_EQ(sent<wire::Abort>().size(), 1u);
    step(ArePending{CallId{61}});
    receive(wire::PendingAnswer{1, 0, true});
    EXPECT_FALSE(outcome(CallId{61}));
    receive(wire::PendingAnswer{1, 1, false});
    EXPECT_EQ(outcome(CallId{61}), pcclSuccess);
    step(OpFinished{op(1, 5, 0)});
    receive(wire::Commit{{op(1, 5, 0)}});
    receive(wire::OpFailed{op(1, 5, 0), pcclInvalidUsage, false, ""});
}

TEST_F(PeerTest, AbortedUpdateStillStartsAGeneration) {
    join();
    step(UpdateTopology{CallId{50}});
    const auto number = sent<wire::VoteUpdate>().back().call;
    step(AbortCalls{});
    receive(wire::CallDone{wire::Call::update_topology, number, pcclSuccess, 9, ""});
    EXPECT_EQ(outcome(CallId{50}), pcclRankConnectionLost);
    step(ArePending{CallId{51}});
    EXPECT_EQ(sent<wire::AskPending>().back().generation, 9u);
    EXPECT_EQ(sent<wire::AskPending>().back().k, 0u);
}

TEST_F(PeerTest, RemovedPeerCanJoinAgain) {
    join();
    const CallId call = reduce(5);
    receive(wire::Removed{pcclMasterConnectionFailed, "silent"});
    step(MasterDown{"late"});
    EXPECT_EQ(outcome(call), pcclMasterConnectionFailed);
    EXPECT_EQ(effects<HangUp>().size(), 1u);
    EXPECT_NE(outcome(reduce(5)).value(), pcclSuccess);  // it ends at once while the peer is not connected
    step(Connect{CallId{70}});
    EXPECT_EQ(effects<DialMaster>().size(), 2u);
}

TEST_F(PeerTest, SilentMasterIsGivenUp) {
    join();
    const CallId call = reduce(5);
    for (int i = 0; i < 31 && !outcome(call); ++i) {
        now_ = now_ + 1s;
        step(PeerTick{});
    }
    EXPECT_EQ(outcome(call), pcclMasterConnectionFailed);
}

TEST_F(PeerTest, MessagesBeforeTheWelcomeAreIgnored) {
    step(Connect{CallId{1}});
    step(MasterUp{});
    view(1);
    receive(wire::Freeze{1, ""});
    step(OpFinished{op(1, 1, 0)});
    receive(wire::Commit{{op(1, 1, 0)}});
    receive(wire::OpenLink{});
    receive(wire::CallDone{wire::Call::connect, 0, pcclSuccess, 1, ""});
    EXPECT_FALSE(outcome(CallId{1}));
    EXPECT_TRUE(effects<StartEpoch>().empty());
    EXPECT_TRUE(effects<MakeLink>().empty());
}

TEST_F(PeerTest, MasterThatCommitsAnUnfinishedOperationIsLeft) {
    join();
    const CallId call = reduce(5);
    receive(wire::Commit{{op(1, 5, 0)}});
    EXPECT_EQ(outcome(call), pcclInternalError);
    EXPECT_EQ(effects<HangUp>().size(), 1U);
}

}  // namespace
}  // namespace pccl::protocol
