// Losses at particular times: during a reduce, during retries, during the bandwidth measurement, at the source of shared state.
// Also processes that stop without ending.
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <gmock/gmock.h>

#include <thread>

namespace pccl::itest {
namespace {

using Clock = std::chrono::steady_clock;

TEST(Loss, ReduceFailsEverywhereAndTheInputIsIntact) {
    for (const bool in_place : {false, true}) {
        World world;
        world.join(4);
        // Peer 3 never calls, so the operations of the others are in flight when it dies.
        for (std::size_t i = 0; i < 3; ++i) {
            const Json request = {{"count", 4 << 20}, {"rank", i}, {"in_place", in_place}, {"handle", "h"}};
            ASSERT_TRUE(has_code(world[i].call("launch", request), pcclSuccess));
        }
        world[3].kill();
        for (std::size_t i = 0; i < 3; ++i) {
            const Json answer = world[i].call("await", {{"handle", "h"}}, Millis(5000));
            EXPECT_TRUE(has_code(answer, pcclRankConnectionLost));
            EXPECT_EQ(answer.at("send_intact"), true);
            EXPECT_NE(answer.at("error"), "");
        }
        world.erase(3);
        const auto again = world.call_each("reduce", ranked(3, {{"count", 4 << 20}, {"in_place", in_place}}));
        EXPECT_TRUE(all_right(again));
        EXPECT_EQ(again[0].at("peers"), 3);
    }
}

TEST(Loss, MultipleWithRetryContinuesWithTheSurvivors) {
    for (int round = 0; round < 5; ++round) {
        World world;
        world.join(4);
        std::vector<int> calls;
        for (std::size_t i = 0; i < 4; ++i) {
            Json ops = Json::array();
            for (int op = 0; op < 12; ++op) {
                ops.push_back(
                    {{"count", 1 << 20}, {"tag", op}, {"op", "avg"}, {"pattern", "constant:2"}, {"in_place", op % 2 == 0}});
            }
            calls.push_back(world[i].start("multiple", {{"ops", ops}, {"max_in_flight", 4}}));
        }
        // Each round kills later in the sequence of twelve operations; which of them are in flight is left to chance on purpose.
        std::this_thread::sleep_for(Millis(10 + 40 * round));
        world[2].kill();
        std::vector<Json> answers;
        for (const std::size_t i : {0U, 1U, 3U})
            answers.push_back(world[i].finish(calls[i]));
        EXPECT_TRUE(all_have_code(answers, pcclSuccess));
        for (const Json &answer : answers) {
            for (std::size_t op = 0; op < 12; ++op) {
                EXPECT_EQ(answer.at("results")[op].at("first"),
                          2.0);  // the average of equal values, regardless of the contributors
                EXPECT_EQ(answer.at("results")[op].at("hash"), answers[0].at("results")[op].at("hash"));
            }
        }
    }
}

TEST(Loss, MultipleWithRetryEndsWithTooFewPeersWhenAlone) {
    World world;
    world.join(2);
    const int call = world[0].start(
        "multiple", {{"ops", {{{"count", 1 << 20}, {"tag", 1}}, {{"count", 1 << 20}, {"tag", 2}}}}, {"max_in_flight", 2}});
    // Long enough that the operations are usually in flight. No event shows it: peer 1 never calls. A kill before that has the
    // same outcome.
    std::this_thread::sleep_for(Millis(50));
    world[1].kill();
    const Json answer = world[0].finish(call, Millis(5000));
    EXPECT_TRUE(has_code(answer, pcclTooFewPeers));
    for (const Json &result : answer.at("results"))
        EXPECT_EQ(result.at("send_intact"), true);
}

TEST(Loss, OptimizeTopologyReturnsAtTheOthers) {
    for (int round = 0; round < 4; ++round) {
        World world;
        world.join(4);
        std::vector<int> calls;
        for (std::size_t i = 0; i < 4; ++i)
            calls.push_back(world[i].start("optimize"));
        // Each round kills in another phase of the measurement, which takes a few hundred milliseconds and reports nothing in
        // between.
        std::this_thread::sleep_for(Millis(5 + 60 * round));
        world[static_cast<std::size_t>(round)].kill();
        std::vector<Json> answers;
        for (std::size_t i = 0; i < 4; ++i) {
            if (i != static_cast<std::size_t>(round)) answers.push_back(world[i].finish(calls[i]));
        }
        world.erase(static_cast<std::size_t>(round));
        for (const Json &answer : answers)
            EXPECT_EQ(answer.at("code"), answers[0].at("code")) << answer.dump();
        EXPECT_TRUE(all_have_code(world.call_all("update"), pcclSuccess));
        EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 100000}}))));
    }
}

Json state(int seed) { return {{"tensors", Json::array({{{"name", "w"}, {"count", 24 << 20}, {"seed", seed}}})}}; }

TEST(Loss, OtherSourceOfSharedStateTakesOver) {
    for (int round = 0; round < 4; ++round) {
        World world;
        world.join(3);
        world.call_each("define", {state(1), state(1), state(2)}, Millis(60000));
        std::vector<int> calls;
        for (std::size_t i = 0; i < 3; ++i)
            calls.push_back(world[i].start("sync"));
        // Each round kills in another part of the transfer. Members stage what they pull, so its progress cannot be observed.
        std::this_thread::sleep_for(Millis(15 + 25 * round));
        world[0].kill();
        const Json source = world[1].finish(calls[1]);
        const Json receiver = world[2].finish(calls[2]);
        // Both receive the same code. If the loss was reported instead of handled, the next call succeeds.
        ASSERT_EQ(source.at("code"), receiver.at("code")) << source.dump() << receiver.dump();
        world.erase(0);
        if (code(source) != pcclSuccess) {
            EXPECT_TRUE(all_same(world.call_all("sync"), "hashes"));
        } else {
            EXPECT_EQ(source.at("hashes"), receiver.at("hashes")) << source.dump() << receiver.dump();
        }
    }
}

TEST(Loss, OnlySourceOfSharedStateIsReportedLost) {
    World world;
    world.join(3);
    world.call_each("define", {state(1), state(2), state(2)}, Millis(60000));
    std::vector<int> calls;
    calls.push_back(world[0].start("sync", {{"strategy", "send"}}));
    calls.push_back(world[1].start("sync"));
    calls.push_back(world[2].start("sync"));
    // Usually within the transfer; both outcomes are checked below. Members stage what they pull, so its progress cannot be
    // observed.
    std::this_thread::sleep_for(Millis(20));
    world[0].kill();
    const Json one = world[1].finish(calls[1]);
    const Json two = world[2].finish(calls[2]);
    ASSERT_EQ(one.at("code"), two.at("code")) << one.dump() << two.dump();
    world.erase(0);
    if (code(one) == pcclSuccess) {
        EXPECT_EQ(one.at("hashes"), two.at("hashes")) << one.dump() << two.dump();  // it died after the transfer
    } else {
        EXPECT_TRUE(all_same(world.call_all("sync"), "hashes"));
    }
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST(Loss, NewcomerThatDiesDisturbsNobody) {
    World world;
    world.join(2);
    for (int round = 0; round < 10; ++round) {
        PeerProcess &newcomer = world.spawn();
        newcomer.start("connect");
        // Each round kills in another step of joining: dialling, greeting, links, waiting.
        std::this_thread::sleep_for(Millis(round * 3));
        newcomer.kill();
        world.erase(2);
        ASSERT_TRUE(all_have_code(world.call_all("update"), pcclSuccess));
        const auto answers = world.call_each("reduce", ranked(2, {{"count", 1000}}));
        for (const Json &answer : answers) {
            ASSERT_TRUE(code(answer) == pcclSuccess || code(answer) == pcclRankConnectionLost) << answer.dump();
        }
    }
}

TEST(Stop, SilentPeerIsRemovedAndInformedWhenItResumes) {
    World world({.heartbeat_timeout_ms = 1000});
    world.join(4);
    std::vector<int> loops;
    for (std::size_t i = 0; i < 4; ++i)
        loops.push_back(world[i].start("loop", {{"slot", i}, {"thread", 1}}));
    for (std::size_t i = 0; i < 4; ++i)
        EXPECT_EQ(world[i].next_event().at("members"), 15);
    const auto stopped_at = Clock::now();
    world[1].stop();
    for (const std::size_t i : {0U, 2U, 3U})
        EXPECT_EQ(world[i].next_event(Millis(6000)).at("members"), 13);
    const auto took = std::chrono::ceil<Millis>(Clock::now() - stopped_at);
    EXPECT_LE(took, Millis(3000) * kSlowdown);
    EXPECT_GE(took, Millis(500)) << "removed before the limit";
    world[1].resume();
    const Json told = world[1].finish(loops[1], Millis(10000));
    EXPECT_TRUE(has_code(told, pcclMasterConnectionFailed));
    EXPECT_NE(told.at("error"), "");
    // It can join again as a newcomer.
    EXPECT_TRUE(has_code(world[1].call("connect", {{"thread", 1}}), pcclSuccess));
    loops[1] = world[1].start("loop", {{"slot", 1}, {"thread", 1}});
    for (std::size_t i = 0; i < 4; ++i)
        EXPECT_EQ(world[i].next_event().at("members"), 15);
    world[0].call("stop_loop");
    for (std::size_t i = 0; i < 4; ++i)
        EXPECT_TRUE(has_code(world[i].finish(loops[i]), pcclSuccess));
}

TEST(Stop, BriefPauseLosesNobody) {
    World world({.heartbeat_timeout_ms = 3000});
    world.join(3);
    std::vector<int> loops;
    for (std::size_t i = 0; i < 3; ++i)
        loops.push_back(world[i].start("loop", {{"slot", i}, {"thread", 1}}));
    for (std::size_t i = 0; i < 3; ++i)
        EXPECT_EQ(world[i].next_event().at("members"), 7);
    for (int round = 0; round < 3; ++round) {
        world[2].stop();
        std::this_thread::sleep_for(Millis(500));  // the pause under test: a sixth of the heartbeat timeout
        world[2].resume();
        std::this_thread::sleep_for(Millis(200));  // some steps of the loop run between two pauses
    }
    world[0].call("stop_loop");
    for (std::size_t i = 0; i < 3; ++i) {
        const Json answer = world[i].finish(loops[i]);
        EXPECT_TRUE(has_code(answer, pcclSuccess));
        EXPECT_EQ(answer.at("lost"), 0);
    }
}

TEST(Straggler, IsRemovedWithAReasonIfConfigured) {
    World world({.remove_stragglers_after_ms = 2000});
    world.join(3);
    std::vector<int> calls;
    for (const std::size_t i : {0U, 2U})
        calls.push_back(world[i].start("reduce", {{"count", 1000}, {"handle", "h"}}));
    for (std::size_t i = 0; i < 2; ++i) {
        const Json answer = world[2 * i].finish(calls[i], Millis(8000));
        EXPECT_TRUE(has_code(answer, pcclRankConnectionLost));
        EXPECT_THAT(answer.at("error").get<std::string>(),
                    ::testing::ContainsRegex(
                        "peer [0-9]+ at .* holds the others up and was removed.*it has not called pcclAllReduce with tag 0"));
    }
    const Json told = world[1].call("reduce", {{"count", 1000}});
    EXPECT_TRUE(has_code(told, pcclMasterConnectionFailed));
    EXPECT_THAT(told.at("error").get<std::string>(), ::testing::HasSubstr("holds the others up"));
    world.erase(1);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST(Straggler, UnawaitedOperationIsNotBlamed) {
    World world({.remove_stragglers_after_ms = 1500});
    world.join(2);
    // Launched, and not awaited while the program computes: no thread waits for it.
    EXPECT_TRUE(has_code(world[0].call("launch", {{"count", 1000}, {"rank", 0}, {"ranks", 2}, {"handle", "h"}}), pcclSuccess));
    std::this_thread::sleep_for(Millis(4000));  // the master must have had time to remove a straggler: more than twice its limit
    const Json second = world[1].call("reduce", {{"count", 1000}, {"rank", 1}, {"ranks", 2}});
    EXPECT_TRUE(all_right({world[0].call("await", {{"handle", "h"}}), second}));
}

TEST(MasterLoss, EndsBlockedCallsWithAnError) {
    World world;
    world.join(2);
    const int call = world[0].start("reduce", {{"count", 1000}});
    // Long enough that the call is usually blocked. No event shows it. A call that begins later fails with the same code.
    std::this_thread::sleep_for(Millis(50));
    EXPECT_EQ(pcclInterruptMaster(world.master().handle.get()), pcclSuccess);
    EXPECT_TRUE(has_code(world[0].finish(call), pcclMasterConnectionFailed));
    EXPECT_TRUE(has_code(world[1].call("update"), pcclMasterConnectionFailed));
}

}  // namespace
}  // namespace pccl::itest
