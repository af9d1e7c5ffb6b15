#include "base/time.h"

#include <gtest/gtest.h>
#include <limits>

namespace pccl {
namespace {

using namespace std::chrono_literals;

TEST(ParseDuration, ReadsEveryUnit) {
    EXPECT_EQ(parse_duration("100us"), Duration(100));
    EXPECT_EQ(parse_duration("500ms"), Duration(500ms));
    EXPECT_EQ(parse_duration("3s"), Duration(3s));
    EXPECT_EQ(parse_duration("2m"), Duration(2min));
    EXPECT_EQ(parse_duration("1h"), Duration(1h));
}

TEST(ParseDuration, ReadsFractionsExactly) {
    EXPECT_EQ(parse_duration("1.5s"), Duration(1500ms));
    EXPECT_EQ(parse_duration("0.1s"), Duration(100ms));
    EXPECT_EQ(parse_duration("0.000001s"), Duration(1));
    EXPECT_EQ(parse_duration("0.0001h"), Duration(360ms));
    EXPECT_EQ(parse_duration("2.50m"), Duration(150s));
}

TEST(ParseDuration, ZeroNeedsNoUnitButOtherNumbersDo) {
    EXPECT_EQ(parse_duration("0"), Duration(0));
    EXPECT_EQ(parse_duration("0ms"), Duration(0));
    EXPECT_FALSE(parse_duration("5"));
    EXPECT_FALSE(parse_duration("00"));
    EXPECT_FALSE(parse_duration("1.5"));
}

TEST(ParseDuration, RejectsInvalidDurations) {
    for (const char *text : {"",   " ",  "s",   "ms",  "-1s",   "+1s",    "-0",    " 1s",  "1s ", "1 s", "1sx",  "1ss",
                             "1S", "1d", "1.s", ".5s", "1..5s", "1.5.5s", "0x10s", "1e3s", "inf", "nan", "1,5s", "1s\n"})
        EXPECT_FALSE(parse_duration(text)) << '"' << text << '"';
    EXPECT_FALSE(parse_duration(std::string_view("1s\0", 3)));
}

TEST(ParseDuration, RejectsFinerThanAMicrosecond) {
    EXPECT_FALSE(parse_duration("0.5us"));
    EXPECT_FALSE(parse_duration("0.0000001s"));
    EXPECT_FALSE(parse_duration("1.0000000000s"));  // ten digits
}

TEST(ParseDuration, RejectsOverflowAndTakesTheLargest) {
    EXPECT_EQ(parse_duration("9223372036854775807us"), Duration(std::numeric_limits<std::int64_t>::max()));
    EXPECT_FALSE(parse_duration("9223372036854775808us"));
    EXPECT_FALSE(parse_duration("18446744073709551617us"));
    EXPECT_FALSE(parse_duration("9223372036854775807ms"));
    EXPECT_EQ(parse_duration("2562047788h"), Duration(9223372036800000000));
    EXPECT_FALSE(parse_duration("2562047788.9h"));
    EXPECT_FALSE(parse_duration("99999999999999999999999999h"));
}

TEST(DurationToString, IsShortAndExactToThreeDigits) {
    const std::pair<Duration, const char *> cases[] = {
        {0us, "0"},         {1us, "1us"},         {999us, "999us"},     {1ms, "1ms"},    {1234us, "1.23ms"},
        {1250ms, "1.25s"},  {500ms, "500ms"},     {10s, "10s"},         {60s, "1m"},     {61s, "61s"},
        {90s, "90s"},       {150s, "2.5m"},       {3600s, "1h"},        {5400s, "90m"},  {999999us, "1s"},
        {-1500ms, "-1.5s"}, {1234567us, "1.23s"}, {1005000us, "1.01s"}, {5000h, "5000h"}};
    for (const auto &[duration, text] : cases)
        EXPECT_EQ(to_string(duration), text) << duration.count();
}

TEST(DurationToString, HandlesTheExtremes) {
    EXPECT_EQ(to_string(Duration(std::numeric_limits<std::int64_t>::max())), "2562047788h");
    EXPECT_EQ(to_string(Duration(std::numeric_limits<std::int64_t>::min())), "-2562047788h");
}

TEST(DurationToString, ReadsBackWithinHalfAPercent) {
    for (std::int64_t us = 1; us < 4'000'000'000'000; us += us / 7 + 1) {
        const auto back = parse_duration(to_string(Duration(us)));
        ASSERT_TRUE(back) << us;
        ASSERT_NEAR(static_cast<double>(back->count()), static_cast<double>(us), static_cast<double>(us) * 0.005) << us;
    }
}

TEST(Time, ArithmeticAndOrder) {
    const Time start{10s};
    EXPECT_EQ(start + 5s, Time{15s});
    EXPECT_EQ((start + 5s) - start, 5s);
    EXPECT_LT(start, start + 1us);
    const Time before = monotonic_now();
    EXPECT_LE(before, monotonic_now());
}

}  // namespace
}  // namespace pccl
