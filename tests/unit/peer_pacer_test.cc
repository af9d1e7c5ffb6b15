// The limit of a link follows the delivery rate of its path.
#include "peer/pacer.h"

#include <gtest/gtest.h>

namespace pccl::peer {
namespace {

using namespace std::chrono_literals;

class Path50ms : public testing::Test {
protected:
    Pacer pacer{50ms};
    Time now{1s};
    std::uint64_t delivered = 0, resent = 0;
    Duration round_trip{80ms};  ///< the path has a queue

    void SetUp() override { (void)pacer.observe(now, {0, 50ms, true}); }

    /// The path delivers at a rate for a time; the pacer observes it every 25 ms.
    void deliver(double bytes_per_s, Duration time, bool backlogged = true, double lost = 0) {
        for (Duration passed{}; passed < time; passed += 25ms) {
            (void)pacer.observe(now, {delivered, round_trip, backlogged, resent});
            now = now + Duration(25ms);
            delivered += static_cast<std::uint64_t>(bytes_per_s * 0.025);
            resent += static_cast<std::uint64_t>(bytes_per_s * 0.025 * lost);
        }
    }
};

TEST_F(Path50ms, HasNoLimitBeforeItsBandwidthIsKnown) {
    EXPECT_EQ(pacer.limit(), std::nullopt);
    for (double rate = 1e6; rate < 1e8; rate *= 2)
        deliver(rate, 50ms);  // slow start
    EXPECT_EQ(pacer.limit(), std::nullopt);
}

TEST_F(Path50ms, IsLimitedToItsRateOnceThatStopsGrowing) {
    for (double rate = 1e6; rate < 1e8; rate *= 2)
        deliver(rate, 50ms);
    deliver(1.2e8, 500ms);
    int probes = 0, drains = 0, cruises = 0;
    for (int i = 0; i < 64; ++i) {
        deliver(1.2e8, 50ms);
        ASSERT_TRUE(pacer.limit());
        probes += *pacer.limit() == 150'000'000;
        drains += *pacer.limit() == 96'000'000;
        cruises += *pacer.limit() == 120'000'000;
    }
    EXPECT_EQ(probes, 6);
    EXPECT_EQ(drains, 6);
    EXPECT_EQ(cruises, 52);
}

TEST_F(Path50ms, MayExceedItsRateWithoutAQueue) {
    deliver(1.2e8, 500ms);
    round_trip = 51ms;
    for (int i = 0; i < 64; ++i) {
        deliver(1.2e8, 50ms);
        EXPECT_EQ(*pacer.limit(), 150'000'000u);
    }
}

/// On a system that does not report a round trip, no queue is detected.
TEST_F(Path50ms, MayNotExceedItsRateIfTheRoundTripIsUnknown) {
    round_trip = 0ms;
    deliver(1.2e8, 1600ms);
    EXPECT_LE(*pacer.limit(), 120'000'000u);
}

/// After a loss or a stopped router, acknowledgements arrive all at once.
TEST_F(Path50ms, IgnoresABurstOfDelayedAcknowledgements) {
    deliver(1.2e8, 500ms);
    for (int i = 0; i < 40; ++i) {
        deliver(1.2e8, 250ms);
        deliver(0.4e8, 50ms);
        deliver(2.0e8, 50ms);
        ASSERT_TRUE(pacer.limit());
        EXPECT_LE(*pacer.limit(), 1.6e8);
    }
}

TEST_F(Path50ms, LearnsNothingWithoutABacklog) {
    deliver(1.2e8, 500ms);
    const auto before = pacer.limit();
    deliver(1e6, 10s, false);
    EXPECT_EQ(pacer.limit(), before);
}

/// Connections lose at different times, and those without a loss have nothing to send.
TEST_F(Path50ms, LearnsFromLossesWithoutAFullBacklog) {
    round_trip = 50ms;
    deliver(1e6, 75ms);  // the start
    round_trip = 80ms;
    deliver(1.2e8, 2s, false, 0.01);
    EXPECT_EQ(pacer.limit(), std::nullopt);
    deliver(1.2e8, 500ms, false, 0.2);
    ASSERT_TRUE(pacer.limit());
    EXPECT_LE(*pacer.limit(), 121'000'000u);
}

TEST_F(Path50ms, FollowsAPathThatBecomesFaster) {
    deliver(1e8, 500ms);
    for (int i = 0; i < 100; ++i)
        deliver(std::min(2e8, static_cast<double>(pacer.limit().value_or(200'000'000))), 50ms);
    EXPECT_GE(*pacer.limit(), 1.6e8);
}

TEST_F(Path50ms, DropsOldMeasurements) {
    deliver(1e8, 500ms);
    deliver(2e7, 15s);
    EXPECT_LE(*pacer.limit(), 2.6e7);
}

}  // namespace
}  // namespace pccl::peer
