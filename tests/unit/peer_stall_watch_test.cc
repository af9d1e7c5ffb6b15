// The time for which a connection has had bytes outstanding without an acknowledgement.
#include "peer/stall_watch.h"

#include <gtest/gtest.h>

namespace pccl::peer {
namespace {

using namespace std::chrono_literals;

class StallWatchTest : public testing::Test {
protected:
    StallWatch watch;
    Time now{1s};
    std::uint64_t acknowledged = 0, outstanding = 0;

    void pass(Duration time, double bytes_per_s = 0) {
        for (Duration passed{}; passed < time; passed += 250ms) {
            now = now + Duration(250ms);
            acknowledged += static_cast<std::uint64_t>(bytes_per_s / 4);
            watch.observe(now, acknowledged, outstanding);
        }
    }
};

TEST_F(StallWatchTest, IdleConnectionIsNotStalled) {
    pass(60s);
    EXPECT_EQ(watch.stalled(), Duration(0));
}

TEST_F(StallWatchTest, SlowConnectionIsNotStalled) {
    outstanding = 1 << 20;
    pass(60s, 400);
    EXPECT_EQ(watch.stalled(), Duration(0));
}

TEST_F(StallWatchTest, StallBeginsWithTheFirstOutstandingByte) {
    pass(60s);
    outstanding = 100;
    pass(5s);
    EXPECT_EQ(watch.stalled(), Duration(5s));
    EXPECT_EQ(watch.outstanding_bytes(), 100u);
}

TEST_F(StallWatchTest, AnyDeliveryEndsTheStall) {
    outstanding = 100;
    pass(8s);
    pass(250ms, 4);
    EXPECT_EQ(watch.stalled(), Duration(0));
}

TEST_F(StallWatchTest, UnobservedTimeDoesNotCount) {
    outstanding = 100;
    pass(3s);
    now = now + Duration(60s);  // this process was stopped
    pass(250ms);
    EXPECT_EQ(watch.stalled(), Duration(0));
}

}  // namespace
}  // namespace pccl::peer
