// The decision of pccl-perf that its times are stable.
#include "perf/warm_up.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace pccl::perf {
namespace {

/// The number of these times after which they count as stable, or their number plus one if they never do.
int iterations_until_settled(std::initializer_list<double> times_us) {
    WarmUp times;
    for (const double time_us : times_us) {
        times.add(time_us);
        if (times.settled()) return times.iterations();
    }
    return times.iterations() + 1;
}

TEST(WarmUp, TakesThreeIterationsWhereTimesAreEven) { EXPECT_EQ(iterations_until_settled({1000, 1010, 990, 1000}), 3); }

TEST(WarmUp, GoesOnWhileTimesFall) { EXPECT_EQ(iterations_until_settled({3000, 1500, 800, 700, 690, 680, 690}), 5); }

TEST(WarmUp, AFewSlowIterationsDoNotPassForSettled) { EXPECT_EQ(iterations_until_settled({700, 1500, 1400, 1000, 720, 710}), 6); }

TEST(WarmUp, EndsWhereNoiseIsLargerThanWhatIsGained) {
    EXPECT_EQ(iterations_until_settled({900, 500, 900, 700, 800, 900, 700, 800, 900}), 7);
}

TEST(WarmUp, SteadySmallGainsKeepItGoing) {
    WarmUp times;
    double time_us = 1e3;
    while (time_us > 300) {
        times.add(time_us);
        ASSERT_FALSE(times.settled()) << time_us;
        time_us *= 0.93;
    }
}

TEST(WarmUp, EndsAtItsBoundOfIterations) {
    WarmUp times;
    for (double time_us = 1e9; !times.settled(); time_us *= 0.5)
        times.add(time_us / 1e3);
    EXPECT_LE(times.iterations(), WarmUp::kMost);
}

TEST(WarmUp, EndsAtItsBoundOfTime) { EXPECT_EQ(iterations_until_settled({40e6, 30e6, 20e6, 10e6}), 3); }

}  // namespace
}  // namespace pccl::perf
