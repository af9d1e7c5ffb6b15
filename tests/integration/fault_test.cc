// Losses in particular moments: within a reduce, within retries, within the measurement of bandwidth, at the source of shared
// state; and processes that stop without ending.
#include "harness/sanitized.h"
#include "harness/reduce.h"

#include <gmock/gmock.h>

#include <thread>

namespace pccl::itest {
namespace {

using Clock = std::chrono::steady_clock;

TEST(Loss, DuringAReduceFailsItEverywhereAndTheInputIsIntact) {
    for (const bool in_place : {false, true}) {
        World world;
        world.join(4);
        // Peer 3 never calls: the others are well inside when it dies.
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

TEST(Loss, MultipleWithRetryGoesOnWithTheSurvivors) {
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
        std::this_thread::sleep_for(Millis(10 + 40 * round));
        world[2].kill();
        std::vector<Json> answers;
        for (const std::size_t i : {0U, 1U, 3U})
            answers.push_back(world[i].finish(calls[i]));
        EXPECT_TRUE(all_have_code(answers, pcclSuccess));
        for (const Json &answer : answers) {
            for (std::size_t op = 0; op < 12; ++op) {
                EXPECT_EQ(answer.at("results")[op].at("first"), 2.0);  // an average, whoever took part
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
    std::this_thread::sleep_for(Millis(50));
    world[1].kill();
    const Json answer = world[0].finish(call, Millis(5000));
    EXPECT_TRUE(has_code(answer, pcclTooFewPeers));
    for (const Json &result : answer.at("results"))
        EXPECT_EQ(result.at("send_intact"), true);
}

TEST(Loss, DuringOptimizeTopologyDoesNotHangTheOthers) {
    for (int round = 0; round < 4; ++round) {
        World world;
        world.join(4);
        std::vector<int> calls;
        for (std::size_t i = 0; i < 4; ++i)
            calls.push_back(world[i].start("optimize"));
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

TEST(Loss, OfOneSourceOfSharedStateIsMadeUpByTheOther) {
    for (int round = 0; round < 4; ++round) {
        World world;
        world.join(3);
        world.call_each("define", {state(1), state(1), state(2)}, Millis(60000));
        std::vector<int> calls;
        for (std::size_t i = 0; i < 3; ++i)
            calls.push_back(world[i].start("sync"));
        std::this_thread::sleep_for(Millis(15 + 25 * round));
        world[0].kill();
        const Json source = world[1].finish(calls[1]);
        const Json receiver = world[2].finish(calls[2]);
        // Both hear the same. If the loss was reported instead of made up for, the next call succeeds.
        ASSERT_EQ(source.at("code"), receiver.at("code")) << source.dump() << receiver.dump();
        world.erase(0);
        if (code(source) != pcclSuccess) {
            EXPECT_TRUE(all_same(world.call_all("sync"), "hashes"));
        } else {
            EXPECT_EQ(source.at("hashes"), receiver.at("hashes")) << source.dump() << receiver.dump();
        }
    }
}

TEST(Loss, OfTheOnlySourceOfSharedStateIsReported) {
    World world;
    world.join(3);
    world.call_each("define", {state(1), state(2), state(2)}, Millis(60000));
    std::vector<int> calls;
    calls.push_back(world[0].start("sync", {{"strategy", "send"}}));
    calls.push_back(world[1].start("sync"));
    calls.push_back(world[2].start("sync"));
    std::this_thread::sleep_for(Millis(20));
    world[0].kill();
    const Json one = world[1].finish(calls[1]);
    const Json two = world[2].finish(calls[2]);
    ASSERT_EQ(one.at("code"), two.at("code")) << one.dump() << two.dump();
    world.erase(0);
    if (code(one) == pcclSuccess) {
        EXPECT_EQ(one.at("hashes"), two.at("hashes")) << one.dump() << two.dump();  // it died too late
    } else {
        EXPECT_TRUE(all_same(world.call_all("sync"), "hashes"));
    }
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST(Loss, OfANewcomerBeforeItIsAdmittedDisturbsNobody) {
    World world;
    world.join(2);
    for (int round = 0; round < 10; ++round) {
        PeerProcess &newcomer = world.spawn();
        newcomer.start("connect");
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

TEST(Stop, ASilentPeerIsRemovedByHeartbeatAndToldSoWhenItWakes) {
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
    // It may come back, as a newcomer.
    EXPECT_TRUE(has_code(world[1].call("connect", {{"thread", 1}}), pcclSuccess));
    loops[1] = world[1].start("loop", {{"slot", 1}, {"thread", 1}});
    for (std::size_t i = 0; i < 4; ++i)
        EXPECT_EQ(world[i].next_event().at("members"), 15);
    world[0].call("stop_loop");
    for (std::size_t i = 0; i < 4; ++i)
        EXPECT_TRUE(has_code(world[i].finish(loops[i]), pcclSuccess));
}

TEST(Stop, ABriefPauseIsNoLoss) {
    World world({.heartbeat_timeout_ms = 3000});
    world.join(3);
    std::vector<int> loops;
    for (std::size_t i = 0; i < 3; ++i)
        loops.push_back(world[i].start("loop", {{"slot", i}, {"thread", 1}}));
    for (std::size_t i = 0; i < 3; ++i)
        EXPECT_EQ(world[i].next_event().at("members"), 7);
    for (int round = 0; round < 3; ++round) {
        world[2].stop();
        std::this_thread::sleep_for(Millis(500));
        world[2].resume();
        std::this_thread::sleep_for(Millis(200));
    }
    world[0].call("stop_loop");
    for (std::size_t i = 0; i < 3; ++i) {
        const Json answer = world[i].finish(loops[i]);
        EXPECT_TRUE(has_code(answer, pcclSuccess));
        EXPECT_EQ(answer.at("lost"), 0);
    }
}

TEST(Straggler, IsRemovedWhereTheMasterIsConfiguredToAndToldWhy) {
    World world({.remove_stragglers_after_ms = 2000});
    world.join(3);
    std::vector<int> calls;
    for (const std::size_t i : {0U, 2U})
        calls.push_back(world[i].start("reduce", {{"count", 1000}, {"handle", "h"}}));
    for (std::size_t i = 0; i < 2; ++i) {
        const Json answer = world[2 * i].finish(calls[i], Millis(8000));
        EXPECT_TRUE(has_code(answer, pcclRankConnectionLost));
        EXPECT_THAT(answer.at("error").get<std::string>(), ::testing::ContainsRegex("peer [0-9]+ at .* holds the others up and was removed.*it has not called pcclAllReduce with tag 0"));
    }
    const Json told = world[1].call("reduce", {{"count", 1000}});
    EXPECT_TRUE(has_code(told, pcclMasterConnectionFailed));
    EXPECT_THAT(told.at("error").get<std::string>(), ::testing::HasSubstr("holds the others up"));
    world.erase(1);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST(Straggler, OfAnOperationThatNobodyAwaitsYetIsNone) {
    World world({.remove_stragglers_after_ms = 1500});
    world.join(2);
    // Launched, and left alone while the program computes: nobody is held up.
    EXPECT_TRUE(has_code(world[0].call("launch", {{"count", 1000}, {"rank", 0}, {"ranks", 2}, {"handle", "h"}}), pcclSuccess));
    std::this_thread::sleep_for(Millis(4000));
    const Json second = world[1].call("reduce", {{"count", 1000}, {"rank", 1}, {"ranks", 2}});
    EXPECT_TRUE(all_right({world[0].call("await", {{"handle", "h"}}), second}));
}

TEST(MasterLoss, EndsBlockedCallsWithAnError) {
    World world;
    world.join(2);
    const int call = world[0].start("reduce", {{"count", 1000}});
    std::this_thread::sleep_for(Millis(50));
    EXPECT_EQ(pcclInterruptMaster(world.master().handle.get()), pcclSuccess);
    EXPECT_TRUE(has_code(world[0].finish(call), pcclMasterConnectionFailed));
    EXPECT_TRUE(has_code(world[1].call("update"), pcclMasterConnectionFailed));
}

}  // namespace
}  // namespace pccl::itest
