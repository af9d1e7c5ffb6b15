// The credit for frames of operations that the other side has not posted.
#include "peer/eager_credit.h"

#include <gtest/gtest.h>

namespace pccl::peer {
namespace {

TEST(EagerCredit, CoversBytesUpToTheBudget) {
    EagerCredit credit;
    EXPECT_TRUE(credit.take(600, 1000));
    EXPECT_FALSE(credit.take(401, 1000));
    EXPECT_TRUE(credit.take(400, 1000)) << "a refused frame must take nothing";
    EXPECT_FALSE(credit.take(1, 1000));
    EXPECT_TRUE(credit.take(1, 2000)) << "the budget grows with the round trip";
}

TEST(EagerCredit, ReturnsToTheSender) {
    EagerCredit credit;
    ASSERT_TRUE(credit.take(1000, 1000));
    credit.give_back(300);
    EXPECT_FALSE(credit.take(301, 1000));
    EXPECT_TRUE(credit.take(300, 1000));
}

TEST(EagerCredit, LimitsStoredBytes) {
    EagerCredit credit;
    credit.hold(wire::kMaxEagerHeld - 10);
    EXPECT_TRUE(credit.can_hold(10));
    EXPECT_FALSE(credit.can_hold(11));
    credit.release(wire::kMaxEagerHeld - 10);
    EXPECT_TRUE(credit.can_hold(wire::kMaxEagerHeld));
    EXPECT_EQ(credit.frames_held(), 0u);
}

TEST(EagerCredit, LimitsStoredFramesWithoutPayload) {
    EagerCredit credit;
    for (std::size_t i = 0; i < wire::kMaxEagerFrames; ++i) {
        ASSERT_TRUE(credit.can_hold(0));
        credit.hold(0);
    }
    EXPECT_FALSE(credit.can_hold(0));
    credit.release(0);
    EXPECT_TRUE(credit.can_hold(0));
}

TEST(EagerCredit, IgnoresReturnsFromBeforeAReset) {
    EagerCredit credit;
    ASSERT_TRUE(credit.take(1000, 1000));
    credit.hold(50);
    credit.reset();
    credit.give_back(1000);
    credit.release(50);
    EXPECT_EQ(credit.frames_held(), 0u);
    EXPECT_TRUE(credit.take(1000, 1000));
    EXPECT_FALSE(credit.take(1, 1000));
    EXPECT_FALSE(credit.can_hold(wire::kMaxEagerHeld + 1));
}

}  // namespace
}  // namespace pccl::peer
