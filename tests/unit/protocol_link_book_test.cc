#include "protocol/link_book.h"

#include <gtest/gtest.h>

namespace pccl::protocol {
namespace {

using namespace std::chrono_literals;

class LinkBookTest : public testing::Test {
protected:
    const PeerId a_{1}, b_{2}, c_{3};
    LinkBook book_;
    Time now_{1s};

    void report(PeerId from, PeerId other, bool up) {
        change_ = book_.report(now_, from, {other, book_.find(from, other)->attempt, up, 100, up ? "" : "refused"});
        book_.check_invariants();
    }
    void bring_up(PeerId x, PeerId y) {
        if (!book_.find(x, y)) book_.open(x, y, x);
        report(x, y, true);
        report(y, x, true);
    }
    LinkBook::Change change_;
};

TEST_F(LinkBookTest, LinkIsUpOnceBothEndsReportIt) {
    EXPECT_EQ(book_.open(b_, a_, b_).number, 1U);
    report(a_, b_, true);
    EXPECT_FALSE(book_.is_up(a_, b_));
    EXPECT_FALSE(book_.all_settled(a_, {b_}));
    report(b_, a_, true);
    EXPECT_TRUE(book_.is_up(a_, b_));
    EXPECT_TRUE(book_.all_settled(a_, {b_}));
}

TEST_F(LinkBookTest, FailedAttemptIsRetriedFromTheOtherSide) {
    book_.open(a_, b_, a_);
    report(a_, b_, false);
    ASSERT_TRUE(change_.retry);
    EXPECT_EQ(change_.retry->dialler, b_);
    EXPECT_EQ(change_.retry->number, 2U);
    report(b_, a_, false);
    EXPECT_FALSE(change_.retry);
    EXPECT_EQ(book_.find(a_, b_)->state, LinkBook::State::down);
    EXPECT_EQ(book_.find(a_, b_)->why, "refused");
}

TEST_F(LinkBookTest, ReportOfAnOlderAttemptIsStale) {
    book_.open(a_, b_, a_);
    book_.open(a_, b_, a_);
    EXPECT_EQ(book_.report(now_, a_, {b_, 1, true, 0, ""}).kind, LinkBook::Change::Kind::stale);
    EXPECT_EQ(book_.report(now_, a_, {c_, 1, true, 0, ""}).kind, LinkBook::Change::Kind::stale);
}

TEST_F(LinkBookTest, DownLinkIsRetriedAfterAMinute) {
    book_.open(a_, b_, a_);
    report(a_, b_, false);
    report(a_, b_, false);
    now_ = now_ + 59s;
    EXPECT_TRUE(book_.retry_down(now_).empty());
    now_ = now_ + 1s;
    ASSERT_EQ(book_.retry_down(now_).size(), 1U);
    EXPECT_EQ(book_.find(a_, b_)->state, LinkBook::State::dialing);
    book_.check_invariants();
}

TEST_F(LinkBookTest, DownLinkIsReopenedOncePerFreeze) {
    book_.open(a_, b_, a_);
    report(a_, b_, false);
    report(a_, b_, false);
    std::set<LinkBook::Pair> retried, of_earlier;
    EXPECT_FALSE(book_.reopen(a_, b_, now_, of_earlier)) << "it went down during the freeze";
    EXPECT_TRUE(book_.reopen(a_, b_, now_ + 1s, retried));
    report(a_, b_, false);
    report(a_, b_, false);
    EXPECT_FALSE(book_.reopen(a_, b_, now_ + 1s, retried));
}

TEST_F(LinkBookTest, LinkThatBreaksRepeatedlyIsNotSteady) {
    for (int i = 0; i < 3; ++i) {
        bring_up(a_, b_);
        EXPECT_EQ(book_.usable(a_, b_, LinkBook::Trust::steady, now_), i < 2);
        EXPECT_TRUE(book_.usable(a_, b_, LinkBook::Trust::any, now_));
        if (i < 2) report(a_, b_, false);
    }
    now_ = now_ + 11min;
    EXPECT_TRUE(book_.usable(a_, b_, LinkBook::Trust::steady, now_));
}

TEST_F(LinkBookTest, LinkThatBrokeEightTimesStaysDown) {
    for (int i = 0; i < 8; ++i) {
        bring_up(a_, b_);
        report(a_, b_, false);
        EXPECT_TRUE(change_.was_up);
        EXPECT_EQ(change_.retry.has_value(), i < 7);
    }
    EXPECT_EQ(book_.find(a_, b_)->state, LinkBook::State::down);
}

TEST_F(LinkBookTest, RingAvoidsAMissingLink) {
    const PeerId d{4};
    for (const auto &[x, y] : {std::pair{a_, b_}, std::pair{b_, c_}, std::pair{c_, d}, std::pair{a_, d}})
        bring_up(x, y);
    const auto ring = book_.best_ring({a_, b_, c_, d}, now_);
    ASSERT_TRUE(ring);
    for (std::size_t i = 0; i < ring->size(); ++i)
        EXPECT_TRUE(book_.is_up((*ring)[i], (*ring)[(i + 1) % 4]));
    EXPECT_FALSE(book_.full_mesh({a_, b_, c_, d}));
    EXPECT_FALSE(book_.best_ring({a_, b_, d, c_, PeerId{5}}, now_));
}

TEST_F(LinkBookTest, PathFactsAreThoseOfTheSlowestLink) {
    bring_up(a_, b_);
    bring_up(b_, c_);
    bring_up(a_, c_);
    EXPECT_EQ(book_.path_facts({a_, b_, c_}), (wire::PathFacts{100, 0})) << "not all links are measured";
    book_.set_bandwidth(a_, b_, 300);
    book_.set_bandwidth(b_, c_, 200);
    book_.set_bandwidth(c_, a_, 400);
    EXPECT_EQ(book_.path_facts({a_, b_, c_}), (wire::PathFacts{100, 200}));
    book_.set_bandwidth(b_, c_, -1);
    EXPECT_EQ(book_.bandwidth(b_, c_), 200);
    EXPECT_EQ(book_.bandwidth(c_, b_), 0);
}

TEST_F(LinkBookTest, RemoveReturnsTheOtherEnds) {
    bring_up(a_, b_);
    bring_up(b_, c_);
    bring_up(a_, c_);
    EXPECT_EQ(book_.remove(b_), (std::vector{a_, c_}));
    EXPECT_EQ(book_.all().size(), 1U);
}

TEST_F(LinkBookTest, RestoredLinkIsUpIfBothEndsReportOneAttempt) {
    book_.restore(a_, b_, {b_, 4, {}, true, 70}, {a_, 4, {}, true, 90});
    EXPECT_TRUE(book_.is_up(a_, b_));
    EXPECT_EQ(book_.find(a_, b_)->round_trip_us, 90U);
    book_.restore(a_, c_, {c_, 4, {}, true, 70}, {a_, 5, {}, true, 90});
    EXPECT_FALSE(book_.is_up(a_, c_));
    EXPECT_EQ(book_.open(a_, c_, a_).number, 6U);
    book_.check_invariants();
}

}  // namespace
}  // namespace pccl::protocol
