// A process that runs out of file descriptors or memory: its call fails with a clear error, the process does not end, and the
// others continue.
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <cstdlib>

namespace pccl::itest {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class Exhaustion : public ::testing::Test {
protected:
    /// Settings of malloc in the peers: memory that one thread frees or reserves counts against the limit at once.
    const bool one_arena = ::setenv("MALLOC_ARENA_MAX", "1", 1) == 0;
    World world;

    void SetUp() override {
        // Sanitizers reserve terabytes of address space, and their allocators end the process when memory is exhausted.
        if (kSanitized) GTEST_SKIP() << "memory limits have no meaning under a sanitizer";
    }
    /// Checks that all peers except `without` still reduce. After a loss, the first call reports it as an error.
    void expect_others_go_on(std::size_t without) {
        std::vector<int> calls;
        for (std::size_t i = 0; i < world.size(); ++i) {
            if (i != without)
                calls.push_back(
                    world[i].start("multiple", {{"ops", {{{"count", 5000}, {"tag", 41}, {"pattern", "constant:1"}}}}}));
        }
        std::size_t at = 0;
        for (std::size_t i = 0; i < world.size(); ++i) {
            if (i == without) continue;
            const Json answer = world[i].finish(calls[at++]);
            EXPECT_TRUE(has_code(answer, pcclSuccess));
            EXPECT_EQ(answer.at("peers"), world.size() - 1);
        }
    }
    static std::string words(const Json &answer) { return answer.at("error"); }
};

TEST_F(Exhaustion, CreateAndConnectReportMissingDescriptors) {
    world.join(2);
    PeerProcess &poor = world.spawn();
    poor.call("limit", {{"files", 1}});
    const Json create = poor.call("create", {{"comm", 1}, {"master", world.master_address()}});
    EXPECT_NE(code(create), pcclSuccess);
    EXPECT_NE(words(create).find("open files"), std::string::npos) << create.dump();
    poor.call("limit", {{"files", 0}});
    const Json connect = poor.call("connect");
    EXPECT_NE(code(connect), pcclSuccess);
    EXPECT_NE(words(connect).find("open files"), std::string::npos) << connect.dump();
    expect_others_go_on(2);
    // Once descriptors are available again, the same communicator connects.
    poor.call("limit");
    world.join_all(3);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 5000}}))));
}

TEST_F(Exhaustion, MemberWithoutDescriptorsKeepsItsLinks) {
    world.join(3);
    world[1].call("limit", {{"files", 0}});
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 1 << 20}, {"times", 3}}))));
    // A newcomer cannot reach it, and no other peer is affected.
    PeerProcess &newcomer = world.spawn();
    const int connecting = newcomer.start("connect");
    EXPECT_TRUE(all_right([&] {
        std::vector<int> calls;
        std::vector<Json> answers;
        const auto requests = ranked(3, {{"count", 5000}, {"times", 20}});
        for (std::size_t i = 0; i < 3; ++i)
            calls.push_back(world[i].start("reduce", requests[i]));
        for (std::size_t i = 0; i < 3; ++i)
            answers.push_back(world[i].finish(calls[i]));
        return answers;
    }()));
    // Once descriptors are available again, it accepts the newcomer.
    world[1].call("limit");
    std::vector<int> updates;
    for (std::size_t i = 0; i < 3; ++i)
        updates.push_back(world[i].start("join", {{"world", 4}}));
    EXPECT_TRUE(has_code(newcomer.finish(connecting), pcclSuccess));
    for (std::size_t i = 0; i < 3; ++i)
        EXPECT_TRUE(has_code(world[i].finish(updates[i]), pcclSuccess));
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(4, {{"count", 5000}}))));
}

TEST_F(Exhaustion, ReduceReportsMissingMemoryForItsUndoCopy) {
    world.join(3);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 1 << 18}}))));
    // There is memory for its buffer but not for the undo copy.
    world[0].call("limit", {{"memory", 100 * kMiB}});
    const Json answer = world[0].call("reduce", {{"count", 64 * kMiB / 4}, {"in_place", true}, {"pattern", "constant:1"}});
    EXPECT_TRUE(has_code(answer, pcclInternalError));
    EXPECT_NE(words(answer).find("no 64 MiB for the copy of the input that an in-place operation overwrites; free memory"),
              std::string::npos)
        << answer.dump();
    world[0].call("limit");
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 1 << 18}}))))
        << "the operation had not begun, so no peer was lost";
}

TEST_F(Exhaustion, MemberWithoutMemoryDuringAReduceLeavesAlone) {
    world.join(3);
    // The buffers are allocated before the limit is set, so only the memory that the library needs is missing.
    Json request = {{"arena", "a"},  {"send_at", 0},  {"receive_at", 32 * kMiB},
                    {"count", 1000}, {"handle", "h"}, {"algorithm", "ring"}};
    for (const char *call : {"launch", "await"})
        EXPECT_TRUE(all_have_code(world.call_all(call, request), pcclSuccess));
    request["count"] = 32 * kMiB / 4;
    world[0].call("limit", {{"memory", 256 * 1024}});
    for (std::size_t i = 0; i < 3; ++i)
        world[i].call("launch", request);
    const auto answers = world.call_all("await", request);
    EXPECT_TRUE(has_code(answers[0], pcclInternalError));
    EXPECT_NE(words(answers[0]).find("memory"), std::string::npos) << answers[0].dump();
    EXPECT_TRUE(has_code(answers[1], pcclRankConnectionLost));
    EXPECT_TRUE(has_code(answers[2], pcclRankConnectionLost));
    expect_others_go_on(0);
    world[0].call("limit");
    world.join_all(3);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 5000}}))));
}

TEST_F(Exhaustion, MemberWithoutMemoryForPulledStateLeavesAlone) {
    world.join(3);
    const Json tensors = {{{"name", "w"}, {"count", 96 * kMiB / 4}, {"seed", 1}}};
    world.call_all("define", {{"tensors", tensors}});
    world[0].call(
        "poke",
        {{"at", 5}});  // the correct revision with other content: pulled chunks are staged in other memory than the tensor
    world[0].call("limit", {{"memory", 32 * kMiB}});
    const auto answers = world.call_all("sync");
    EXPECT_TRUE(has_code(answers[0], pcclInternalError));
    EXPECT_NE(words(answers[0]).find("no 96 MiB for a copy of a tensor of the shared state"), std::string::npos)
        << answers[0].dump();
    EXPECT_TRUE(has_code(answers[1], pcclSuccess));
    EXPECT_TRUE(has_code(answers[2], pcclSuccess));
    expect_others_go_on(0);
    world[0].call("limit");
    world.join_all(3);
    const auto again = world.call_all("sync", {{"revision", 1}});
    EXPECT_TRUE(all_same(again, "hashes"));
}

}  // namespace
}  // namespace pccl::itest
