// The quota of log lines about unauthenticated connections.
#include "base/log_quota.h"

#include <gtest/gtest.h>

namespace pccl {
namespace {

using namespace std::chrono_literals;

TEST(LogQuota, WritesTheFirstFewOfAMinuteAndCountsTheRest) {
    LogQuota quota(3);
    Time now{5s};
    int written = 0;
    for (int i = 0; i < 1000; ++i) {
        written += quota.admit(now);
        EXPECT_EQ(quota.take_unlogged(now), 0u);
        now = now + 10ms;
    }
    EXPECT_EQ(written, 3);
    now = Time{5s + 60s};
    EXPECT_EQ(quota.take_unlogged(now), 997u);
    EXPECT_EQ(quota.take_unlogged(now), 0u);
    EXPECT_TRUE(quota.admit(now));
}

TEST(LogQuota, WritesAllRareMessages) {
    LogQuota quota(1);
    Time now{};
    for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(quota.admit(now));
        now = now + 1min;
        EXPECT_EQ(quota.take_unlogged(now), 0u);
    }
}

TEST(LogQuota, ReportsTheCountAfterTheNextWindowHasBegun) {
    LogQuota quota(1);
    Time now{};
    EXPECT_TRUE(quota.admit(now));
    EXPECT_FALSE(quota.admit(now));
    now = now + 1min;
    EXPECT_TRUE(quota.admit(now));
    now = now + 1min;
    EXPECT_EQ(quota.take_unlogged(now), 1u);
}

}  // namespace
}  // namespace pccl
