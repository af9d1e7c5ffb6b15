// Faults while a newcomer pulls shared state: it continues with the remaining sources, and no chunk is pulled twice.
//
// PCCL_STATE_MIB sets the size of the state. The figures in docs/internals/reliability.md are for 1024.
#include "harness/master_process.h"
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <iostream>

namespace pccl::itest {
namespace {

constexpr std::size_t kSources = 3;
constexpr std::size_t kMiB = 1 << 20;
constexpr Millis kLimit{60000};

std::size_t chunks() {
    const char *wanted = std::getenv("PCCL_STATE_MIB");
    return wanted ? std::strtoull(wanted, nullptr, 10) : kSanitized ? 48 : 256;
}

Json state(std::uint64_t seed, std::uint64_t revision) {
    const Json tensor = {{"name", "w"}, {"type", "uint8"}, {"count", chunks() * kMiB}, {"seed", seed}};
    return {{"revision", revision}, {"tensors", Json::array({tensor})}};
}

/// Three members that hold the state, and a newcomer that lacks all of it.
class Pull {
public:
    explicit Pull(const WorldOptions &options = {}) : world(options) {
        world.join(kSources);
        world.call_all("define", state(1, 0), kLimit);
        world.call_all("sync", {}, kLimit);
        world.spawn();
        world.join_all(kSources + 1);
        newcomer().call("define", state(2, 0), kLimit);
        for (std::size_t i = 0; i < kSources; ++i)
            calls_.push_back(world[i].start("sync", {{"revision", 1}}));
        calls_.push_back(newcomer().start("sync"));
    }

    PeerProcess &newcomer() { return world[kSources]; }

    /// Waits until the newcomer has received that many chunks.
    void await(std::size_t wanted) {
        const auto end = std::chrono::steady_clock::now() + kLimit;
        while (newcomer().call("overwritten", {{"thread", 1}}).at("chunks").get<std::size_t>() < wanted) {
            if (std::chrono::steady_clock::now() > end) throw NoAnswer("the pull makes no progress");
        }
    }
    bool over() { return newcomer().answered(calls_[kSources]); }

    Json finish(std::size_t i) { return world[i].finish(calls_[i], kLimit); }

    /// Expects that the newcomer holds the content of the second source. Returns the number of bytes that it received.
    std::size_t finish_newcomer() {
        const Json answer = finish(kSources);
        EXPECT_TRUE(has_code(answer, pcclSuccess));
        EXPECT_EQ(answer.at("hashes"), finish(1).at("hashes"));
        return answer.at("rx").get<std::size_t>();
    }

    World world;

private:
    std::vector<int> calls_;
};

TEST(StateFault, OtherSourcesSendTheRestWhenOneDies) {
    Pull pull;
    pull.await(chunks() / 8);
    ASSERT_FALSE(pull.over()) << "the pull ended before the fault: set PCCL_STATE_MIB to a larger size";
    pull.world[0].kill();
    EXPECT_EQ(pull.finish_newcomer(), chunks() * kMiB);
    EXPECT_TRUE(has_code(pull.finish(2), pcclSuccess));
}

TEST(StateFault, StoppedSourceDoesNotDelayThePull) {
    Pull pull({.heartbeat_timeout_ms = 3600000});  // the master never removes the stopped peer
    pull.await(chunks() / 8);
    ASSERT_FALSE(pull.over()) << "the pull ended before the fault: set PCCL_STATE_MIB to a larger size";
    pull.world[0].stop();
    EXPECT_EQ(pull.finish_newcomer(), chunks() * kMiB);
    pull.world[0].resume();
    EXPECT_TRUE(has_code(pull.finish(0), pcclSuccess));
    EXPECT_TRUE(has_code(pull.finish(2), pcclSuccess));
    EXPECT_TRUE(all_right(pull.world.call_each("reduce", ranked(kSources + 1, {{"count", 1000}}))));
}

TEST(StateFault, ModifiedTensorFailsTheCallAndRemovesNobody) {
    Pull pull;
    pull.await(chunks() / 16);
    ASSERT_FALSE(pull.over()) << "the pull ended before the fault: set PCCL_STATE_MIB to a larger size";
    pull.world[0].call("spoil", {{"thread", 1}});
    const Json culprit = pull.finish(0);
    EXPECT_TRUE(has_code(culprit, pcclInvalidUsage));
    EXPECT_THAT(culprit.at("error").get<std::string>(),
                ::testing::HasSubstr("was modified while pcclSynchronizeSharedState ran"));
    for (const std::size_t other : {std::size_t{1}, std::size_t{2}, kSources})
        EXPECT_TRUE(has_code(pull.finish(other), pcclNoSharedStateAvailable));
    // The fault broke no link.
    EXPECT_TRUE(all_right(pull.world.call_each("reduce", ranked(kSources + 1, {{"count", 1000}}))));
}

TEST(StateFault, PullContinuesAndTheNextMasterCommitsIt) {
    MasterProcess master;
    Pull pull({.master = master.address()});
    pull.await(chunks() / 8);
    ASSERT_FALSE(pull.over()) << "the pull ended before the fault: set PCCL_STATE_MIB to a larger size";
    master.kill();
    pull.await(chunks());
    EXPECT_FALSE(pull.over());
    master.start();
    EXPECT_EQ(pull.finish_newcomer(), chunks() * kMiB) << master.log();
    EXPECT_TRUE(has_code(pull.finish(0), pcclSuccess)) << master.log();
    EXPECT_TRUE(has_code(pull.finish(2), pcclSuccess)) << master.log();
}

TEST(StateFault, RestartedMasterStopsNoPull) {
    MasterProcess master;
    Pull pull({.master = master.address()});
    pull.await(chunks() / 8);
    ASSERT_FALSE(pull.over()) << "the pull ended before the fault: set PCCL_STATE_MIB to a larger size";
    master.kill();
    master.start();
    EXPECT_EQ(pull.finish_newcomer(), chunks() * kMiB) << master.log();
    EXPECT_TRUE(has_code(pull.finish(0), pcclSuccess)) << master.log();
    EXPECT_TRUE(has_code(pull.finish(2), pcclSuccess)) << master.log();
}

TEST(StateFault, OnlyDifferentChunksAreSent) {
    constexpr std::size_t kChunks = 200;
    World world;
    world.join(kSources);
    const Json tensor = {{"name", "w"}, {"type", "uint8"}, {"count", kChunks * kMiB}, {"seed", 1}};
    world.call_all("define", {{"tensors", Json::array({tensor})}}, kLimit);
    for (const std::size_t chunk : {17U, 180U})
        world[2].call("poke", {{"at", chunk * kMiB + 4711}});
    const auto answers = world.call_all("sync", {}, kLimit);
    EXPECT_TRUE(all_same(answers, "hashes"));
    std::size_t moved = 0;
    for (const Json &answer : answers)
        moved += answer.at("rx").get<std::size_t>();
    EXPECT_EQ(moved, kChunks / 100 * kMiB);
}

}  // namespace
}  // namespace pccl::itest
