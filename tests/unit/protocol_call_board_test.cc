#include "protocol/call_board.h"

#include <gtest/gtest.h>

namespace pccl::protocol {
namespace {

using namespace std::chrono_literals;
using wire::Blocked;
using wire::Call;

class CallBoardTest : public testing::Test {
protected:
    CallBoardTest() {
        for (const PeerId id : {a_, b_})
            board_.add(id, GroupId{0}, Call::none, now_);
    }
    std::optional<CallBoard::Conflict> check() {
        board_.check_invariants();
        return board_.check(now_, {{{a_, b_}, frozen_, &done_}}, 10s);
    }
    OpId op(std::uint64_t tag) const { return {ViewNumber{1}, Tag{tag}, 0}; }

    const PeerId a_{1}, b_{2};
    Time now_{1s};
    CallBoard board_;
    std::map<OpId, std::set<PeerId>> done_;
    bool frozen_ = false;
};

TEST_F(CallBoardTest, PeerIsInOneCallAtATime) {
    EXPECT_TRUE(board_.vote(now_, a_, Call::update_topology, 1));
    EXPECT_FALSE(board_.vote(now_, a_, Call::optimize_topology, 2));
    board_.end_call(a_);
    EXPECT_TRUE(board_.vote(now_, a_, Call::optimize_topology, 2));
}

TEST_F(CallBoardTest, DifferentCallsConflictAfterTheGracePeriod) {
    board_.vote(now_, a_, Call::update_topology, 1);
    board_.vote(now_, b_, Call::sync_shared_state, 1);
    EXPECT_TRUE(board_.check_due(now_));
    EXPECT_FALSE(check());
    EXPECT_EQ(board_.next_check(), now_ + 10s);
    EXPECT_FALSE(board_.check_due(now_ + 9s));
    now_ = now_ + 10s;
    const auto conflict = check();
    ASSERT_TRUE(conflict);
    EXPECT_EQ(std::set({conflict->first, conflict->second}), std::set({a_, b_}));
}

TEST_F(CallBoardTest, CallOfAMemberBlocksAnOperationItHasNotMade) {
    board_.report_waiting(now_, a_, {op(5)}, Blocked::none);
    board_.vote(now_, b_, Call::update_topology, 1);
    now_ = now_ + 10s;
    EXPECT_TRUE(check());
    done_[op(5)] = {b_};
    EXPECT_FALSE(check()) << "it made the operation before the call";
}

TEST_F(CallBoardTest, OperationsInDifferentOrderConflict) {
    board_.report_waiting(now_, a_, {op(5)}, Blocked::all);
    board_.report_waiting(now_, b_, {op(6)}, Blocked::all);
    now_ = now_ + 10s;
    EXPECT_TRUE(check());
}

TEST_F(CallBoardTest, GracePeriodIsLongerWhileAThreadIsFree) {
    board_.report_waiting(now_, a_, {op(5)}, Blocked::some);
    board_.report_waiting(now_, b_, {op(6)}, Blocked::all);
    now_ = now_ + 29s;
    EXPECT_FALSE(check());
    now_ = now_ + 1s;
    EXPECT_TRUE(check());
}

TEST_F(CallBoardTest, OperationThatAllMembersCalledDoesNotConflict) {
    board_.report_waiting(now_, a_, {op(5)}, Blocked::all);
    board_.report_waiting(now_, b_, {op(5), op(6)}, Blocked::all);
    now_ = now_ + 60s;
    EXPECT_FALSE(check());
}

TEST_F(CallBoardTest, OperationsOfAFrozenGroupDoNotConflict) {
    frozen_ = true;
    board_.report_waiting(now_, a_, {op(5)}, Blocked::all);
    board_.report_waiting(now_, b_, {op(6)}, Blocked::all);
    now_ = now_ + 60s;
    EXPECT_FALSE(check());
}

TEST_F(CallBoardTest, RepeatedReportKeepsItsTime) {
    board_.report_waiting(now_, a_, {op(5)}, Blocked::all);
    board_.report_waiting(now_ + 1s, a_, {op(5)}, Blocked::all);
    EXPECT_EQ(board_.of(a_).waiting_since, now_);
    board_.op_ended(a_, op(5));
    EXPECT_EQ(board_.describe(a_), "peer 1 is in no call that waits");
}

TEST_F(CallBoardTest, NewcomersDoNotConflict) {
    board_.add(PeerId{3}, GroupId{0}, Call::connect, now_);
    board_.vote(now_, a_, Call::update_topology, 1);
    board_.vote(now_, b_, Call::update_topology, 1);
    now_ = now_ + 60s;
    EXPECT_FALSE(check());
    EXPECT_EQ(board_.describe(PeerId{3}), "peer 3 is in pcclConnect");
}

}  // namespace
}  // namespace pccl::protocol
