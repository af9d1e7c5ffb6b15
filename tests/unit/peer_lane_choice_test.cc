// Half of a link's lanes rest while only the path limits the others.
#include "peer/lane_choice.h"

#include <gtest/gtest.h>

namespace pccl::peer {
namespace {

class EightLanes : public testing::Test {
protected:
    LaneChoice choice{8, false};
    LaneChoice::Work work;

    /// The lanes in use work for `seconds`, and a buffer holds them up for `part` of that. True: too few were in use.
    bool pass(double seconds, double part, bool path_known = true) {
        bool too_few = false;
        for (int i = 0; i < static_cast<int>(seconds * 40); ++i) {
            work.busy_us += 25'000 * choice.in_use();
            work.held_up_us += static_cast<std::uint64_t>(part * 25'000 * static_cast<double>(choice.in_use()));
            too_few = choice.observe(path_known, work) || too_few;
        }
        return too_few;
    }
};

TEST_F(EightLanes, AreAllUsedUntilThePathIsKnown) {
    EXPECT_FALSE(pass(10, 0, false));
    EXPECT_EQ(choice.in_use(), 8u);
}

TEST_F(EightLanes, HalfRestOnceThePathIsKnown) {
    EXPECT_FALSE(pass(100, 0.005));
    EXPECT_EQ(choice.in_use(), 4u);
}

TEST_F(EightLanes, AreAllUsedAfterBuffersHeldUpHalf) {
    EXPECT_TRUE(pass(2, 0.1));
    EXPECT_EQ(choice.in_use(), 8u);
    EXPECT_FALSE(pass(100, 0));
    EXPECT_EQ(choice.in_use(), 8u);
}

TEST_F(EightLanes, AreJudgedWhileHalfOfThemRest) {
    EXPECT_FALSE(pass(10, 0.5, false));  // the congestion windows are still growing
    EXPECT_FALSE(pass(10, 0));
    EXPECT_EQ(choice.in_use(), 4u);
}

TEST(LaneChoice, KeepsTheNumberThatTheUserSet) {
    LaneChoice fixed(16, true);
    EXPECT_FALSE(fixed.observe(true, {10'000'000, 0}));
    EXPECT_EQ(fixed.in_use(), 16u);
}

TEST(LaneChoice, UsesAllOfAFewLanes) {
    LaneChoice few(4, false);
    EXPECT_FALSE(few.observe(true, {10'000'000, 0}));
    EXPECT_EQ(few.in_use(), 4u);
}

}  // namespace
}  // namespace pccl::peer
