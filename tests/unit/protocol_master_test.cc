// The master against single peers, including hostile ones. A peer that breaks the rules loses its own connection, and no other
// peer is affected.
#include "unit/protocol_master.h"

namespace pccl::protocol {
namespace {

// ----------------------------------------------------------------------------------------------------------- hostile messages --

TEST_F(MasterTest, AnythingBeforeHelloIsRefused) {
    for (const ToMaster &message :
         {ToMaster(wire::VoteUpdate{1}), ToMaster(wire::Done{}), ToMaster(wire::Frozen{}), ToMaster(wire::Leave{}),
          ToMaster(wire::OfferState{}), ToMaster(wire::Heartbeat{}), ToMaster(wire::AskPending{}), ToMaster(wire::Abort{})}) {
        const ConnId conn = connect();
        send(conn, message);
        EXPECT_TRUE(closed_.contains(conn)) << name_of(message);
        send(conn, message);  // messages that were in flight
    }
    EXPECT_EQ(member_count(), 0u);
}

TEST_F(MasterTest, WrongMagicOrVersionIsRefused) {
    for (const auto &hello : {wire::Hello{1, wire::kVersion, {}, {}, 0}, wire::Hello{wire::kMagic, 99, {}, {}, 0}}) {
        const ConnId conn = connect();
        send(conn, hello);
        EXPECT_TRUE(closed_.contains(conn));
    }
}

TEST_F(MasterTest, ConnectionWithoutHelloIsClosedInTime) {
    const ConnId conn = connect();
    EXPECT_LE(master_.next_timeout() - now_, Duration(wire::kHelloTimeout));
    now_ = now_ + wire::kHelloTimeout;
    step(MasterTick{});
    EXPECT_TRUE(closed_.contains(conn));
}

TEST_F(MasterTest, SecondHelloEndsTheConnection) {
    const auto all = members(2);
    send(all[1], wire::Hello{});
    EXPECT_TRUE(closed_.contains(all[1]));
    EXPECT_FALSE(closed_.contains(all[0]));
}

TEST_F(MasterTest, MemberMessageOfANewcomerEndsTheConnection) {
    const ConnId first = join();
    for (const ToMaster &message :
         {ToMaster(wire::VoteUpdate{1}), ToMaster(wire::VoteOptimize{1}), ToMaster(wire::OfferState{}),
          ToMaster(wire::AskPending{}), ToMaster(wire::ProbeReport{}), ToMaster(wire::Done{}), ToMaster(wire::OpFault{}),
          ToMaster(wire::Frozen{}), ToMaster(wire::SyncDone{}), ToMaster(wire::StateFault{}), ToMaster(wire::Waiting{})}) {
        const ConnId newcomer = join();
        send(newcomer, message);
        EXPECT_TRUE(closed_.contains(newcomer)) << name_of(message);
        send(newcomer, message);
    }
    EXPECT_FALSE(closed_.contains(first));
    EXPECT_EQ(member_count(), 1u);
}

TEST_F(MasterTest, UnknownNamesAreIgnored) {
    const auto all = members(2);
    const OpId old{ViewNumber{0}, Tag{1}, 0}, future{ViewNumber{99}, Tag{1}, 0};
    for (const OpId &bogus : {old, future}) {
        send(all[0], wire::Done{{bogus}});
        send(all[1], wire::Done{{bogus}});
        send(all[0], wire::OpFault{bogus, pcclSuccess, "?"});
        send(all[0], wire::StateFault{77, "?"});
        send(all[0], wire::Waiting{wire::Blocked::none, {bogus}});
    }
    for (const std::uint64_t nobody : {0u, 1u, 77u})
        send(all[0], wire::LinkReport{PeerId{nobody}, 1, false, 0, "?"});
    send(all[0], wire::LinkReport{PeerId{2}, 55, false, 0, "?"});
    send(all[0], wire::ProbeReport{5, PeerId{2}, 1e9});
    send(all[0], wire::SyncDone{5, true, ""});
    send(all[0], wire::Frozen{5, {{Tag{1}, 9}}});
    send(all[0], wire::AskPending{~0ull, ~0ull});
    send(all[0], wire::AskPending{3, ~0ull});
    EXPECT_TRUE(closed_.empty());
    EXPECT_EQ(received<wire::Commit>(all[0]).size(), 0u);
    EXPECT_EQ(received<wire::Freeze>(all[0]).size(), 0u);
    send(all[0], wire::Done{{op(all[0], 1)}});
    send(all[1], wire::Done{{op(all[1], 1)}});
    EXPECT_EQ(received<wire::Commit>(all[1]).size(), 1u);
}

TEST_F(MasterTest, OwnFaultNamesItsCulpritAtAllMembers) {
    const auto all = members(3);
    send(all[2], wire::Done{{op(all[2], 9)}});
    send(all[1], wire::OpFault{op(all[1], 9), pcclInvalidUsage, "sendbuff was modified", true});
    for (const ConnId conn : all) {
        const auto failed = received<wire::OpFailed>(conn);
        ASSERT_EQ(failed.size(), 1U);
        EXPECT_EQ(failed[0].code, pcclInvalidUsage);
        EXPECT_EQ(failed[0].culprit, PeerId{2});
        EXPECT_TRUE(received<wire::Freeze>(conn).empty());
    }
    EXPECT_TRUE(closed_.empty());
}

TEST_F(MasterTest, RepeatedDoneCountsOnce) {
    const auto all = members(2);
    send(all[0], wire::Done{{op(all[0], 1), op(all[0], 1)}});
    send(all[0], wire::Done{{op(all[0], 1)}});
    EXPECT_TRUE(received<wire::Commit>(all[0]).empty());
}

TEST_F(MasterTest, MemberWithTooManyUnsharedResultsIsRemoved) {
    const auto all = members(2);
    wire::Done done;
    for (std::uint64_t tag = 0; tag < wire::kMaxOpsInMessage; ++tag)
        done.ops.push_back(op(all[0], tag));
    send(all[0], done);
    EXPECT_FALSE(closed_.contains(all[0]));
    send(all[0], wire::Done{{op(all[0], 0, 7)}});
    EXPECT_TRUE(closed_.contains(all[0]));
    EXPECT_EQ(member_count(), 1u);
}

TEST_F(MasterTest, MemberWithMoreCallsThanAViewHoldsIsRemoved) {
    const auto all = members(3);
    const auto carries = [&](ConnId conn, std::uint64_t first, std::uint64_t count) {
        wire::Frozen frozen{received<wire::Freeze>(conn).back().freeze, {}, {}};
        for (std::uint64_t tag = first; tag < first + count; ++tag)
            frozen.carried.push_back({Tag{tag}, 0, {}});
        send(conn, frozen);
    };
    down(all[0], 2, 1);
    carries(all[0], 0, 40000);
    carries(all[1], 20000, 40000);
    carries(all[2], 60000, 40000);
    EXPECT_FALSE(closed_.contains(all[0]));
    EXPECT_FALSE(closed_.contains(all[1]));
    EXPECT_TRUE(closed_.contains(all[2]));
    link_all();
    const auto view = received<wire::View>(all[0]).back();
    EXPECT_EQ(view.ring.size(), 2u);
    EXPECT_EQ(view.repaired.size() + view.begun.size(), 60000u);
    const wire::Bytes bytes = wire::encode(ToPeer(view));
    ToPeer decoded;
    EXPECT_TRUE(wire::decode(std::span<const std::byte>(bytes).subspan(4), decoded));
}

TEST_F(MasterTest, TooManyRangesAreNotRepaired) {
    const auto all = members(6);
    down(all[0], 2, 1);
    op::FinalRanges scattered;
    for (std::uint64_t i = 0; i < wire::kMaxFinalRanges; ++i)
        scattered.push_back({2 * i, 1, 6});
    for (const ConnId conn : all)
        send(conn, wire::Frozen{received<wire::Freeze>(conn).back().freeze, {}, {{Tag{1}, 3, scattered}}});
    EXPECT_TRUE(closed_.empty());
    const auto view = received<wire::View>(all[0]).back();
    EXPECT_TRUE(view.repaired.empty());
    ASSERT_EQ(view.begun.size(), 1u);
    EXPECT_EQ(view.begun[0].next_seq, 4u);
}

TEST_F(MasterTest, SecondVoteEndsTheConnection) {
    const auto all = members(2);
    send(all[0], wire::VoteUpdate{2});
    send(all[0], wire::OfferState{});
    EXPECT_TRUE(closed_.contains(all[0]));
    EXPECT_FALSE(closed_.contains(all[1]));
}

TEST_F(MasterTest, UnknownAndClosedConnectionsAreIgnored) {
    send(ConnId{42}, wire::Leave{});
    lose(ConnId{42});
    const ConnId conn = join();
    send(conn, wire::Leave{});
    EXPECT_TRUE(closed_.contains(conn));
    send(conn, wire::VoteUpdate{1});
    lose(conn);
    EXPECT_EQ(master_.members().size(), 0u);
}

TEST_F(MasterTest, QuotedReasonStaysWithinTheTextLimit) {
    const auto all = members(2);
    send(all[0], wire::LinkReport{PeerId{2}, 1, false, 0, std::string(wire::kMaxText, 'x')});
    for (const auto &message : inbox_[all[1]]) {
        const auto bytes = wire::encode(message);
        ToPeer back;
        EXPECT_TRUE(wire::decode(std::span(bytes).subspan(4), back)) << name_of(message);
    }
}

// ------------------------------------------------------------------------------------------------------------------ admission --

TEST_F(MasterTest, FirstMemberDoesNotCountAsANewcomer) {
    const ConnId first = join();
    const auto generation = received<wire::View>(first).back().generation;
    send(first, wire::AskPending{generation, 0});
    EXPECT_FALSE(received<wire::PendingAnswer>(first).back().pending);
}

TEST_F(MasterTest, NewcomerContinuesARunWithoutMembers) {
    const auto all = members(2);
    const ConnId newcomer = join();
    lose(all[0]);
    lose(all[1]);
    ASSERT_EQ(received<wire::View>(newcomer).size(), 1u);
    EXPECT_EQ(received<wire::View>(newcomer).back().ring, std::vector{PeerId{3}});
    EXPECT_EQ(received<wire::CallDone>(newcomer).back().code, pcclSuccess);
}

TEST_F(MasterTest, NewcomerWaitsWhileAMembersLinkIsMadeAgain) {
    const auto all = members(2);
    const ConnId newcomer = join();
    link_all();
    down(all[0], 2, 1);
    EXPECT_FALSE(closed_.contains(newcomer));
    thaw(all);
    link_all();
    send(all[0], wire::VoteUpdate{2});
    send(all[1], wire::VoteUpdate{1});
    EXPECT_EQ(member_count(), 3u);
}

TEST_F(MasterTest, TwoNewcomersCanBeRefusedAtOnce) {
    const auto all = members(3);
    const ConnId one = join(), two = join();
    link_all();
    for (const std::uint64_t newcomer : {4u, 5u}) {  // each one reaches peers 1 and 2, and not peer 3
        for (const std::uint32_t attempt : {1u, 2u, 3u})
            down(all[2], newcomer, attempt);
    }
    EXPECT_TRUE(closed_.empty());
    pass(11s);
    lose(all[1]);
    thaw({all[0], all[2]});
    EXPECT_TRUE(closed_.contains(one));
    EXPECT_TRUE(closed_.contains(two));
    EXPECT_EQ(member_count(), 2u);
}

TEST_F(MasterTest, MemberWithoutLinksIsRemovedForGood) {
    const auto all = members(2);
    for (std::uint32_t attempt = 1; attempt <= 3; ++attempt)
        down(all[0], 2, attempt);
    thaw(all);
    ASSERT_TRUE(closed_.contains(all[1]));
    EXPECT_EQ(received<wire::Removed>(all[1]).back().code, pcclRankConnectionFailed);
    EXPECT_EQ(received<wire::View>(all[0]).back().ring, std::vector{PeerId{1}});
}

// ------------------------------------------------------------------------------------------------------------------ questions --

TEST_F(MasterTest, GroupThatAsksRarelyLearnsOfANewcomer) {
    const ConnId fast = join(1), slow = join(2);
    send(fast, wire::VoteUpdate{1});
    const auto generation = received<wire::CallDone>(fast).back().generation;
    const auto ask = [&](ConnId conn, std::uint64_t k) {
        send(conn, wire::AskPending{generation, k});
        return received<wire::PendingAnswer>(conn).back().pending;
    };
    EXPECT_FALSE(ask(slow, 0));
    for (std::uint64_t k = 0; k < 1000; ++k)
        EXPECT_FALSE(ask(fast, k));
    join(3);
    EXPECT_TRUE(ask(fast, 1000));
    EXPECT_TRUE(ask(slow, 1));
}

TEST_F(MasterTest, FirstAnswerHoldsForGroupsInStep) {
    const ConnId one = join(1), two = join(2);
    send(one, wire::VoteUpdate{1});
    const auto generation = received<wire::CallDone>(one).back().generation;
    send(one, wire::AskPending{generation, 0});
    join(3);
    send(two, wire::AskPending{generation, 0});
    EXPECT_FALSE(received<wire::PendingAnswer>(two).back().pending);
    send(two, wire::AskPending{generation, 1});
    send(one, wire::AskPending{generation, 1});
    EXPECT_TRUE(received<wire::PendingAnswer>(one).back().pending);
    EXPECT_TRUE(received<wire::PendingAnswer>(two).back().pending);
}

TEST_F(MasterTest, YesIsFinalAfterTheNewcomerLeft) {
    const ConnId one = join(1), two = join(2);
    send(one, wire::VoteUpdate{1});
    const auto generation = received<wire::CallDone>(one).back().generation;
    const ConnId newcomer = join(3);
    send(one, wire::AskPending{generation, 0});
    lose(newcomer);
    send(two, wire::AskPending{generation, 0});
    EXPECT_TRUE(received<wire::PendingAnswer>(two).back().pending);
}

// ---------------------------------------------------------------------------------------------------------------- measurement --

TEST_F(MasterTest, ViewAdoptsAnOptimizedRing) {
    const auto all = members(4);
    const auto ring_before = received<wire::View>(all[0]).back().ring;
    for (const ConnId conn : all)
        send(conn, wire::VoteOptimize{2});
    // Only 1 -> 3 -> 2 -> 4 -> 1 is fast: the matrix is asymmetric, and its best ring is not the current one.
    const std::set<std::pair<std::uint64_t, std::uint64_t>> fast{{1, 3}, {3, 2}, {2, 4}, {4, 1}};
    std::map<ConnId, std::size_t> answered;
    for (bool more = true; more;) {
        more = false;
        for (const ConnId conn : all) {
            const auto probes = received<wire::Probe>(conn);
            while (answered[conn] < probes.size()) {
                const auto &probe = probes[answered[conn]++];
                const bool quick = fast.contains({conn.value, probe.to.value});
                send(conn, wire::ProbeReport{probe.round, probe.to, quick ? 1000.0 : 10.0});
                more = true;
            }
        }
    }
    const std::vector<PeerId> best{PeerId{1}, PeerId{3}, PeerId{2}, PeerId{4}};
    ASSERT_NE(ring_before, best);
    for (const ConnId conn : all) {
        EXPECT_EQ(answered[conn], 3u);  // it has measured every other member once
        const auto view = received<wire::View>(conn).back();
        EXPECT_EQ(view.ring, best);
        EXPECT_EQ(view.epoch, view.number);  // later operations use the new ring
        const auto done = received<wire::CallDone>(conn).back();
        EXPECT_EQ(done.kind, wire::Call::optimize_topology);
        EXPECT_EQ(done.code, pcclSuccess);
    }
    // Pairs that were measured are not measured again.
    for (const ConnId conn : all)
        send(conn, wire::VoteOptimize{3});
    EXPECT_EQ(received<wire::CallDone>(all[0]).back().call, 3u);
    EXPECT_EQ(received<wire::Probe>(all[0]).size(), 3u);
}

TEST_F(MasterTest, EndlessProbeDoesNotMakeTheMasterSpin) {
    const auto all = members(2);
    for (const ConnId conn : all)
        send(conn, wire::VoteOptimize{2});
    down(all[0], 2, 1);  // a freeze that no member answers
    now_ = now_ + 11s;
    step(MasterTick{});
    EXPECT_GT(master_.next_timeout(), now_);
}

// --------------------------------------------------------------------------------------------------------------------- misuse --

TEST_F(MasterTest, CallsThatNeverMeetFailWithTheirNames) {
    const auto all = members(2);
    send(all[0], offer(2));
    send(all[1], wire::Waiting{wire::Blocked::none, {op(all[1], 9)}});
    pass(9s);
    EXPECT_EQ(received<wire::CallDone>(all[0]).back().code, pcclSuccess);  // the outcome of the last call
    pass(2s);
    const auto done = received<wire::CallDone>(all[0]).back();
    EXPECT_EQ(done.code, pcclInvalidUsage);
    EXPECT_NE(done.why.find("peer 1 is in pcclSynchronizeSharedState"), std::string::npos) << done.why;
    EXPECT_NE(done.why.find("peer 2 is in pcclAllReduce with tag 9"), std::string::npos) << done.why;
    const auto failed = received<wire::OpFailed>(all[1]);
    ASSERT_EQ(failed.size(), 1u);
    EXPECT_TRUE(failed[0].skip);
    EXPECT_TRUE(closed_.empty());
}

TEST_F(MasterTest, ConflictingReducesEndAfterTheGracePeriod) {
    const auto all = members(2);
    send(all[0], wire::Waiting{wire::Blocked::all, {op(all[0], 1)}});
    send(all[1], wire::Waiting{wire::Blocked::all, {op(all[1], 2)}});
    pass(9s);
    EXPECT_TRUE(received<wire::OpFailed>(all[0]).empty());
    pass(2s);
    for (const ConnId conn : all) {
        const auto failed = received<wire::OpFailed>(conn);
        ASSERT_EQ(failed.size(), 2u);
        EXPECT_NE(failed[0].why.find("peer 1 is in pcclAllReduce with tag 1, peer 2 is in pcclAllReduce with tag 2"),
                  std::string::npos)
            << failed[0].why;
    }
}

TEST_F(MasterTest, GracePeriodTriplesWhileAThreadIsFree) {
    const auto all = members(2);
    send(all[0], wire::Waiting{wire::Blocked::some, {op(all[0], 1)}});
    send(all[1], wire::Waiting{wire::Blocked::all, {op(all[1], 2)}});
    pass(28s);
    EXPECT_TRUE(received<wire::OpFailed>(all[0]).empty());
    pass(4s);
    EXPECT_EQ(received<wire::OpFailed>(all[0]).size(), 2u);
}

TEST_F(MasterTest, ConflictThatBeginsWhenAnotherEndsIsFound) {
    const auto all = members(3);
    send(all[0], offer(2));
    send(all[1], wire::Waiting{wire::Blocked::all, {op(all[1], 9)}});
    pass(8s);
    send(all[1], wire::Waiting{wire::Blocked::none, {}});  // it has given up that operation
    send(all[2], wire::VoteOptimize{1});
    pass(9s);
    EXPECT_TRUE(received<wire::CallDone>(all[2]).back().code == pcclSuccess);
    pass(2s);
    EXPECT_EQ(received<wire::CallDone>(all[0]).back().code, pcclInvalidUsage);
    EXPECT_EQ(received<wire::CallDone>(all[2]).back().code, pcclInvalidUsage);
}

TEST_F(MasterTest, DownLinkIsRetriedBeforeAMemberIsRemoved) {
    const auto all = members(4);  // the ring 1 3 2 4 does not need the link between 1 and 2
    down(all[0], 2, 1);
    down(all[0], 2, 2);
    down(all[0], 2, 3);
    thaw(all);
    EXPECT_EQ(received<wire::View>(all[0]).back().ring.size(), 4u);
    now_ = now_ + 1s;
    lose(all[3]);  // now the ring needs every link
    thaw({all[0], all[1], all[2]});
    EXPECT_EQ(received<wire::OpenLink>(all[0]).back().other, PeerId{2});
    link_all();
    EXPECT_EQ(received<wire::View>(all[0]).back().ring.size(), 3u);
    EXPECT_EQ(member_count(), 3u);
}

TEST_F(MasterTest, MemberIsRemovedAfterAllItsLinksWereTried) {
    const auto all = members(2);
    down(all[0], 2, 1);
    thaw(all);
    down(all[0], 2, 2);
    EXPECT_EQ(member_count(), 2u);
    down(all[1], 1, 3);
    EXPECT_EQ(member_count(), 1u);
}

TEST_F(MasterTest, OldBreaksOfALinkAreForgiven) {
    const auto all = members(2);
    for (std::uint32_t attempt = 1; attempt <= 20; ++attempt) {
        down(all[0], 2, attempt);
        thaw(all);
        link_all();
        ASSERT_EQ(received<wire::View>(all[0]).back().ring.size(), 2u) << attempt;
        pass(11min);
    }
}

TEST_F(MasterTest, SilentMemberIsRemovedAndItsAddressLogged) {
    const auto all = members(3);
    const Time last = now_;
    while (!closed_.contains(all[2]) && now_ - last < 20s) {
        now_ = std::min(now_ + Duration(500ms), std::max(master_.next_timeout(), now_ + Duration(1ms)));
        for (const ConnId conn : {all[0], all[1]})
            send(conn, wire::Heartbeat{});
        step(MasterTick{});
    }
    EXPECT_GE(now_ - last, 10s);
    EXPECT_LE(now_ - last, 10s + 100ms);
    EXPECT_NE(received<wire::Freeze>(all[0]).back().why.find("peer 3 at 0.0.0.0:0 was removed: silent for 10s"),
              std::string::npos)
        << received<wire::Freeze>(all[0]).back().why;
}

TEST_F(MasterTest, StragglerIsReportedToItsGroupAndStays) {
    const auto all = members(3);
    const auto waits = [&](std::uint32_t open_ms) {
        for (const ConnId conn : {all[0], all[1]}) {
            send(conn, wire::Waiting{wire::Blocked::all, {op(conn, 7)}});
            wire::OpProgress progress;
            progress.op = op(conn, 7);
            progress.awaited = true;
            progress.open_ms = open_ms;
            send(conn, wire::ProgressReport{{progress}, {}});
        }
    };
    waits(9000);
    pass(1s);
    EXPECT_TRUE(received<wire::Notice>(all[0]).empty());
    waits(11000);
    pass(1s);
    for (const ConnId conn : all) {
        ASSERT_EQ(received<wire::Notice>(conn).size(), 1u);
        EXPECT_NE(received<wire::Notice>(conn)[0].why.find("peer 3 at 0.0.0.0:0 holds the others up"), std::string::npos);
    }
    send(all[2], wire::Waiting{wire::Blocked::all, {op(all[2], 7)}});
    waits(12000);
    pass(1s);
    EXPECT_NE(received<wire::Notice>(all[0]).back().why.find("over after"), std::string::npos);
    EXPECT_EQ(member_count(), 3u);
}

TEST_F(MasterTest, MemberThatDelaysACallIsAStraggler) {
    const auto all = members(2);
    send(all[0], wire::VoteUpdate{2});
    pass(12s);
    ASSERT_EQ(received<wire::Notice>(all[0]).size(), 1u);
    EXPECT_NE(received<wire::Notice>(all[0])[0].why.find("it has not called pcclUpdateTopology"), std::string::npos);
    EXPECT_EQ(member_count(), 2u);
}

TEST_F(MasterTest, CallsOfDifferentGroupsMeet) {
    const ConnId one = join(1), two = join(2);
    send(one, wire::VoteUpdate{1});
    send(one, wire::VoteUpdate{2});
    send(two, offer(1));  // it is alone in its group, so its call ends at once
    pass(30s);
    for (const ConnId conn : {one, two})
        for (const auto &done : received<wire::CallDone>(conn))
            EXPECT_EQ(done.code, pcclSuccess);
}

TEST_F(MasterTest, MemberOutsideAllCallsIsNoConflict) {
    const auto all = members(2);
    send(all[0], wire::VoteUpdate{2});
    pass(60s);
    EXPECT_EQ(received<wire::CallDone>(all[0]).size(), 2u);  // connect, and the update that admitted the others
    send(all[1], wire::VoteUpdate{1});
    EXPECT_EQ(received<wire::CallDone>(all[0]).back().code, pcclSuccess);
}

TEST_F(MasterTest, MemberWithItsResultDoesNotWait) {
    const auto all = members(2);
    send(all[1], wire::Waiting{wire::Blocked::none, {op(all[1], 9)}});
    send(all[1], wire::Done{{op(all[1], 9)}});
    send(all[0], wire::Done{{op(all[0], 9)}});
    send(all[0], offer(2));
    pass(12s, {all[1]});  // it hangs, and the master removes it
    for (const auto &done : received<wire::CallDone>(all[0]))
        EXPECT_EQ(done.code, pcclSuccess) << done.why;
    EXPECT_TRUE(closed_.contains(all[1]));
}

TEST_F(MasterTest, AbortDoesNotFailOtherMembersSynchronization) {
    const auto all = members(3);
    send(all[0], offer(2));
    send(all[1], offer(1));
    send(all[1], wire::Abort{});
    thaw(all);
    send(all[2], offer(1));
    EXPECT_TRUE(received<wire::SyncCommit>(all[0]).empty());
    send(all[1], offer(2));
    for (const ConnId conn : all)
        EXPECT_EQ(received<wire::SyncCommit>(conn).size(), 1u);
}

TEST_F(MasterTest, ElectionWithoutReceiversInvalidatesTheLastPlan) {
    const auto all = members(3);
    const auto holding = [](std::uint32_t call, std::uint8_t content) {
        wire::OfferState state = offer(call);
        state.tensors.push_back(
            {.name = "t", .type = op::Type::u8, .count = 1, .allow_content_inequality = false, .hash = {content}});
        return state;
    };
    send(all[0], holding(2, 7));
    send(all[1], holding(1, 8));
    send(all[2], holding(1, 8));
    EXPECT_EQ(received<wire::SyncPlan>(all[0]).back().pull.size(), 1u);
    lose(all[1]);
    lose(all[2]);
    thaw({all[0]});  // as the only member, it holds the elected content: its own
    ASSERT_EQ(received<wire::SyncCommit>(all[0]).size(), 1u);
    EXPECT_NE(received<wire::SyncCommit>(all[0]).back().sync, received<wire::SyncPlan>(all[0]).back().sync);
}

TEST_F(MasterTest, StateFaultFailsTheSynchronizationOnly) {
    const auto all = members(3);
    const auto holding = [](std::uint32_t call, std::uint8_t content) {
        wire::OfferState state = offer(call);
        state.tensors.push_back(
            {.name = "t", .type = op::Type::u8, .count = 1, .allow_content_inequality = false, .hash = {content}});
        return state;
    };
    send(all[0], holding(2, 7));
    send(all[1], holding(1, 8));
    send(all[2], holding(1, 8));
    const std::uint64_t sync = received<wire::SyncPlan>(all[0]).back().sync;
    send(all[1], wire::StateFault{sync - 1, "of an earlier plan"});
    EXPECT_NE(received<wire::CallDone>(all[1]).back().kind, wire::Call::sync_shared_state);
    send(all[1], wire::StateFault{sync, "tensor 't' was modified"});
    for (const ConnId conn : all) {
        const auto done = received<wire::CallDone>(conn).back();
        EXPECT_EQ(done.kind, wire::Call::sync_shared_state);
        EXPECT_EQ(done.code, conn == all[1] ? pcclInvalidUsage : pcclNoSharedStateAvailable);
        EXPECT_EQ(done.why, "tensor 't' was modified");
    }
    EXPECT_TRUE(closed_.empty());
}

TEST_F(MasterTest, LossOfTheLastMissingMemberCommits) {
    const auto all = members(3);
    send(all[0], wire::Done{{op(all[0], 1)}});
    send(all[1], wire::Done{{op(all[1], 1)}});
    lose(all[2]);
    for (const ConnId conn : {all[0], all[1]}) {
        const auto commit =
            std::ranges::find_if(inbox_[conn], [](const auto &m) { return std::holds_alternative<wire::Commit>(m); });
        const auto freeze =
            std::ranges::find_if(inbox_[conn], [](const auto &m) { return std::holds_alternative<wire::Freeze>(m); });
        EXPECT_LT(commit - inbox_[conn].begin(), freeze - inbox_[conn].begin());
        EXPECT_NE(commit, inbox_[conn].end());
    }
}

}  // namespace
}  // namespace pccl::protocol
