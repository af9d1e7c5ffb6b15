// A program that writes to the buffers of its all-reduces while they run. The operation fails with an error that names the cause.
// No link breaks, no peer is removed, and the operations of other threads continue.
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <gmock/gmock.h>

namespace pccl::itest {
namespace {

constexpr int kTimes = kSanitized ? 100 : 500;
constexpr std::size_t kCulprit = 1;

struct Modification {
    const char *name;
    int peers;
    const char *algorithm;
    const char *buffer;  ///< "send" or "receive"
    int compression;
};

/// Prints the name. Otherwise the test's description would contain addresses, which change.
void PrintTo(const Modification &modification, std::ostream *out) { *out << modification.name; }

class ModifiedBuffer : public ::testing::TestWithParam<Modification> {};

TEST_P(ModifiedBuffer, FailsOnlyTheOperationAndAtEveryMember) {
    const Modification &what = GetParam();
    World world;
    world.join(what.peers, {.compression = what.compression});
    std::vector<int> honest, calls;
    for (int i = 0; i < what.peers; ++i) {
        honest.push_back(world[i].start(
            "reduce", {{"count", 5000}, {"tag", 2}, {"times", 100}, {"rank", i}, {"ranks", what.peers}, {"thread", 1}}));
        Json request = {{"count", 400'000}, {"type", "float"}, {"op", "sum"},
                        {"tag", 1},         {"times", kTimes}, {"algorithm", what.algorithm}};
        if (i == kCulprit) request["modify"] = what.buffer;
        calls.push_back(world[i].start("modified_reduces", request));
    }
    std::vector<Json> answers;
    for (int i = 0; i < what.peers; ++i)
        answers.push_back(world[i].finish(calls[i], Millis(80000)));
    for (int i = 0; i < what.peers; ++i)
        EXPECT_TRUE(has_code(world[i].finish(honest[i], Millis(20000)), pcclSuccess));

    int failed = 0;
    const Json &culprit = answers[kCulprit];
    for (int k = 0; k < kTimes; ++k) {
        const bool fails = culprit.at("codes")[k] != pcclSuccess;
        failed += fails;
        for (int i = 0; i < what.peers; ++i) {
            const bool mine = i == kCulprit;
            ASSERT_EQ(answers[i].at("codes")[k], !fails ? pcclSuccess
                                                 : mine ? pcclInvalidUsage
                                                        : pcclRankConnectionLost)
                << "call " << k << " at peer " << i;
            // The receive buffer of the culprit is not compared if its program wrote to it.
            if (!fails && !(mine && what.buffer == std::string("receive"))) {
                ASSERT_EQ(answers[i].at("hashes")[k], answers[0].at("hashes")[k]) << "call " << k << " at peer " << i;
            }
        }
    }
    std::cout << failed << " of " << kTimes << " operations failed\n";
    EXPECT_GT(failed, 0);
    // No link broke and no peer was lost: otherwise a call would have failed for that reason.
    const std::string buffer = what.buffer == std::string("send") ? "sendbuff" : "recvbuff";
    for (const Json &answer : answers) {
        for (const Json &error : answer.at("errors"))
            ASSERT_THAT(error.get<std::string>(),
                        ::testing::HasSubstr(buffer + " of the all-reduce with tag 1 was modified while it ran"));
    }
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(what.peers, {{"count", 1000}}))));
}

INSTANTIATE_TEST_SUITE_P(Cases, ModifiedBuffer,
                         ::testing::Values(Modification{"SendOfTwo", 2, "ring", "send", 0},
                                           Modification{"SendOfThree", 3, "ring", "send", 0},
                                           Modification{"SendInOneHop", 3, "one-hop", "send", 0},
                                           Modification{"ReceiveOfThree", 3, "ring", "receive", 0},
                                           Modification{"ReceiveInOneHop", 3, "one-hop", "receive", 0}),
                         [](const auto &param) { return std::string(param.param.name); });

}  // namespace
}  // namespace pccl::itest
