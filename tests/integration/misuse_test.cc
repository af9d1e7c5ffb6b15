// Programs that disagree: calls with different descriptors, calls that can never complete together, buffers that are used
// twice. No call may hang, and the error names both peers and both values.
#include "harness/reduce.h"

#include <gmock/gmock.h>

#include <thread>

namespace pccl::itest {
namespace {

using ::testing::HasSubstr;

struct Difference {
    const char *name;
    Json one;
    Json other;
    const char *one_word;  ///< the text of the value in the error
    const char *other_word;
};

/// Prints the name. Otherwise the test's description would contain addresses, which change.
void PrintTo(const Difference &difference, std::ostream *out) { *out << difference.name; }

class Mismatch : public ::testing::TestWithParam<Difference> {};

TEST_P(Mismatch, IsInvalidUsageAndTheTextNamesBothValues) {
    World world({.misuse_grace_ms = 1500});
    world.join(3);
    std::vector<Json> requests(3, {{"count", 10000}, {"type", "float"}, {"op", "sum"}});
    for (std::size_t i = 0; i < 3; ++i)
        requests[i].update(i == 1 ? GetParam().other : GetParam().one);
    const auto answers = world.call_each("reduce", requests, Millis(10000));
    EXPECT_TRUE(all_have_code(answers, pcclInvalidUsage));
    for (const Json &answer : answers) {
        EXPECT_THAT(answer.at("error").get<std::string>(), HasSubstr(GetParam().one_word));
        EXPECT_THAT(answer.at("error").get<std::string>(), HasSubstr(GetParam().other_word));
        EXPECT_EQ(answer.at("send_intact"), true);
    }
    // Only that call was wrong, so the next one succeeds.
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 1000}}))));
}

INSTANTIATE_TEST_SUITE_P(
    Of, Mismatch,
    ::testing::Values(
        Difference{"Count", {{"count", 10000}}, {{"count", 10001}}, "10000", "10001"},
        Difference{"LargeCount", {{"count", 4000000}}, {{"count", 5000000}}, "4000000", "5000000"},
        Difference{"TinyCount", {{"count", 1}}, {{"count", 2}}, "1", "2"},
        Difference{"Type", {{"type", "float"}}, {{"type", "int32"}}, "float", "int32"},
        Difference{"Operator", {{"op", "sum"}}, {{"op", "max"}}, "sum", "max"},
        Difference{"Quantization", {{"quant", "none"}}, {{"quant", "minmax:u8"}}, "none", "min"},
        Difference{"Algorithm", {{"algorithm", "auto"}}, {{"algorithm", "ring"}}, "algorithm auto", "algorithm ring"},
        Difference{"QuantizationBlock",
                   {{"quant", "blockscale:i8:32"}},
                   {{"quant", "blockscale:i8:64"}},
                   "blocks of 32",
                   "blocks of 64"},
        Difference{"QuantizationScale",
                   {{"quant", "blockscale:i4"}},
                   {{"quant", "blockscale:i4:pow2"}},
                   "float scales",
                   "powers of two"},
        Difference{"ErrorFeedback",
                   {{"quant", "minmax:u8"}},
                   {{"quant", "minmax:u8"}, {"error_feedback", true}},
                   "feedback off",
                   "feedback on"},
        Difference{"QuantizedType", {{"quant", "minmax:u8"}}, {{"quant", "minmax:u16"}}, "uint8", "uint16"},
        Difference{"NarrowQuantizedType", {{"quant", "blockscale:u4"}}, {{"quant", "blockscale:u2"}}, "uint4", "uint2"}),
    [](const auto &param) { return std::string(param.param.name); });

TEST(Tags, TagInFlightIsRejectedAtTheLaunch) {
    World world;
    world.join(2);
    PeerProcess &peer = world[0];
    EXPECT_TRUE(has_code(peer.call("launch", {{"handle", "first"}, {"count", 1000}, {"tag", 5}}), pcclSuccess));
    // Asynchronous and blocking calls, and every collective.
    for (const char *call : {"launch", "reduce", "sharded"}) {
        const Json answer = peer.call(call, {{"handle", call}, {"count", 1000}, {"tag", 5}});
        EXPECT_TRUE(has_code(answer, pcclInvalidUsage)) << call;
        EXPECT_THAT(answer.at("error").get<std::string>(), HasSubstr("tag 5")) << call;
    }
    EXPECT_TRUE(has_code(peer.call("multiple", {{"ops", {{{"count", 10}, {"tag", 5}}}}}), pcclInvalidUsage));
    // The rejected call is unknown to the others, and their calls complete with the first one.
    const int other = world[1].start("reduce", {{"count", 1000}, {"tag", 5}, {"rank", 1}, {"ranks", 2}});
    EXPECT_TRUE(has_code(peer.call("await", {{"handle", "first"}}), pcclSuccess));
    EXPECT_TRUE(has_code(world[1].finish(other, kAnswerLimit), pcclSuccess));
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}, {"tag", 5}}))));
}

TEST(Tags, SecondCallWithATagInFlightIsRejected) {
    World world;
    world.join(2);
    const int blocking = world[0].start("reduce", {{"count", 1000}, {"tag", 5}});
    const Json launched = world[0].call("launch", {{"handle", "it"}, {"count", 1000}, {"tag", 5}, {"thread", 1}});
    const int other = world[1].start("reduce", {{"count", 1000}, {"tag", 5}});
    const Json blocked = world[0].finish(blocking, kAnswerLimit);
    const bool was_first = launched.at("code") == pcclSuccess;
    EXPECT_TRUE(has_code(was_first ? blocked : launched, pcclInvalidUsage));
    EXPECT_THAT((was_first ? blocked : launched).at("error").get<std::string>(), HasSubstr("tag 5"));
    EXPECT_TRUE(has_code(was_first ? world[0].call("await", {{"handle", "it"}}) : blocked, pcclSuccess));
    EXPECT_TRUE(has_code(world[1].finish(other, kAnswerLimit), pcclSuccess));
}

TEST(Deadlock, SyncAndReduceAreBothReported) {
    World world({.misuse_grace_ms = 1000});
    world.join(2);
    world[0].call("define", {{"tensors", {{{"name", "a"}, {"count", 10}}}}});
    const int sync = world[0].start("sync");
    const int reduce = world[1].start("reduce", {{"count", 100}});
    const Json in_sync = world[0].finish(sync, Millis(8000));
    const Json in_reduce = world[1].finish(reduce, Millis(8000));
    for (const Json &answer : {in_sync, in_reduce}) {
        EXPECT_TRUE(has_code(answer, pcclInvalidUsage));
        EXPECT_THAT(answer.at("error").get<std::string>(), ::testing::ContainsRegex("[Ss]ync"));
        EXPECT_THAT(answer.at("error").get<std::string>(), ::testing::ContainsRegex("[Rr]educe"));
    }
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST(Deadlock, UpdateAndReduceAreBothReported) {
    World world({.misuse_grace_ms = 1000});
    world.join(2);
    const int update = world[0].start("update");
    const int reduce = world[1].start("reduce", {{"count", 100}});
    EXPECT_TRUE(has_code(world[0].finish(update, Millis(8000)), pcclInvalidUsage));
    EXPECT_TRUE(has_code(world[1].finish(reduce, Millis(8000)), pcclInvalidUsage));
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST(Deadlock, ReducesWithDifferentTagsAreReported) {
    World world({.misuse_grace_ms = 300});
    world.join(2);
    const auto answers = world.call_each("reduce", {{{"count", 100}, {"tag", 1}}, {{"count", 100}, {"tag", 2}}}, Millis(8000));
    for (const Json &answer : answers) {
        EXPECT_TRUE(has_code(answer, pcclInvalidUsage));
        EXPECT_THAT(answer.at("error").get<std::string>(), ::testing::ContainsRegex("tag 1.*tag 2|tag 2.*tag 1"));
    }
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST(Deadlock, LateMemberIsNotReported) {
    World world({.misuse_grace_ms = 300});
    world.join(2);
    const int first = world[0].start("reduce", {{"count", 100}, {"rank", 0}, {"ranks", 2}});
    std::this_thread::sleep_for(Millis(1200));  // four times the grace, for an error that must not arrive: peer 1 is in no call
    EXPECT_FALSE(world[0].answered(first));
    const Json second = world[1].call("reduce", {{"count", 100}, {"rank", 1}, {"ranks", 2}});
    EXPECT_TRUE(all_right({world[0].finish(first), second}));
}

class Overlap : public ::testing::Test {
protected:
    World world;
    /// Launches at peer 0 and returns the answer.
    Json launch(const char *handle, int tag, std::size_t send_at, std::size_t receive_at) {
        return world[0].call("launch", {{"count", 1000},
                                        {"tag", tag},
                                        {"handle", handle},
                                        {"arena", "a"},
                                        {"send_at", send_at},
                                        {"receive_at", receive_at}});
    }
    /// The code of a launch that is rejected at once or when it is awaited.
    Json outcome(const char *handle, int tag, std::size_t send_at, std::size_t receive_at) {
        const Json launched = launch(handle, tag, send_at, receive_at);
        return code(launched) == pcclSuccess ? world[0].call("await", {{"handle", handle}}, Millis(5000)) : launched;
    }
};

TEST_F(Overlap, ConcurrentBuffersMustNotOverlap) {
    world.join(2);
    EXPECT_TRUE(has_code(launch("first", 1, 0, 10000), pcclSuccess));
    EXPECT_TRUE(has_code(outcome("same result", 2, 20000, 10000), pcclInvalidUsage));
    EXPECT_TRUE(has_code(outcome("part of the result", 3, 20000, 13996), pcclInvalidUsage));
    EXPECT_TRUE(has_code(outcome("sends the result", 4, 12000, 30000), pcclInvalidUsage));
    EXPECT_TRUE(has_code(outcome("writes the input", 5, 20000, 1000), pcclInvalidUsage));
    EXPECT_TRUE(has_code(launch("reads the same input", 6, 0, 40000), pcclSuccess));
    EXPECT_TRUE(has_code(launch("adjacent", 7, 20000, 14000), pcclSuccess));
    EXPECT_TRUE(has_code(outcome("own buffers", 8, 50000, 52000), pcclInvalidUsage));
    // Rejected launches have no effect. The others complete with the operations of the other peers.
    for (const int tag : {1, 6, 7}) {
        world[1].call("launch", {{"count", 1000}, {"tag", tag}, {"handle", std::to_string(tag)}});
        EXPECT_TRUE(has_code(world[1].call("await", {{"handle", std::to_string(tag)}}), pcclSuccess));
    }
    for (const char *handle : {"first", "reads the same input", "adjacent"}) {
        EXPECT_TRUE(has_code(world[0].call("await", {{"handle", handle}}), pcclSuccess));
    }
}

}  // namespace
}  // namespace pccl::itest
