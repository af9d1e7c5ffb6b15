// Tests of joining, world sizes, are_peers_pending, leaving, aborting and IPv6.
#include "harness/reduce.h"

#include <thread>

namespace pccl::itest {
namespace {

class Membership : public ::testing::Test {
protected:
    World world;
};

TEST_F(Membership, AttributesCountPeersAndGroups) {
    for (const int group : {1, 1, 1, 2, 9})
        world.spawn({.group = group});
    world.join_all(5);
    const auto answers = world.call_all("attributes");
    const int group_sizes[] = {3, 3, 3, 1, 1};
    for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(answers[i].at("world"), 5);
        EXPECT_EQ(answers[i].at("group_world"), group_sizes[i]);
        EXPECT_EQ(answers[i].at("groups"), 3);
        EXPECT_EQ(answers[i].at("largest"), 3);
    }
}

TEST_F(Membership, FirstPeerIsAdmittedAtOnceAndTheNextByVote) {
    world.join(1);
    PeerProcess &second = world.spawn();
    const int connect = second.start("connect");
    // No member has voted, so the newcomer waits and is reported as pending after some time.
    while (world[0].call("pending").at("pending") != "1") {
    }
    EXPECT_FALSE(second.answered(connect));
    EXPECT_EQ(world[0].call("attributes").at("world"), 1);
    EXPECT_EQ(world[0].call("update").at("world"), 2);
    EXPECT_EQ(second.finish(connect).at("world"), 2);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST_F(Membership, UpdateWaitsForEveryMember) {
    world.join(3);
    const int first = world[0].start("update");
    const int second = world[1].start("update");
    std::this_thread::sleep_for(Millis(100));  // for answers that must not arrive
    EXPECT_FALSE(world[0].answered(first));
    EXPECT_FALSE(world[1].answered(second));
    EXPECT_TRUE(has_code(world[2].call("update"), pcclSuccess));
    EXPECT_TRUE(has_code(world[0].finish(first), pcclSuccess));
    EXPECT_TRUE(has_code(world[1].finish(second), pcclSuccess));
}

TEST_F(Membership, PendingQuestionHasTheSameAnswersForAll) {
    world.join(3);
    for (int round = 0; round < 5; ++round) {
        // A newcomer arrives while the others ask, each at its own pace.
        PeerProcess &newcomer = world.spawn();
        std::vector<int> asked;
        for (std::size_t i = 0; i + 1 < world.size(); ++i) {
            asked.push_back(world[i].start("pending", {{"times", 300}}));
            if (i == 1) newcomer.start("connect");
        }
        std::vector<Json> answers;
        for (std::size_t i = 0; i < asked.size(); ++i)
            answers.push_back(world[i].finish(asked[i]));
        ASSERT_TRUE(all_same(answers, "pending"));
        newcomer.kill();
        world.erase(world.size() - 1);
        ASSERT_TRUE(all_have_code(world.call_all("update"), pcclSuccess));
    }
}

TEST_F(Membership, PeersJoinWhileOthersTrain) {
    world.join(2);
    world[0].start("loop", {{"slot", 0}, {"thread", 1}});
    world[1].start("loop", {{"slot", 1}, {"thread", 1}});
    for (std::size_t slot = 2; slot < 6; ++slot) {
        PeerProcess &newcomer = world.spawn();
        ASSERT_TRUE(has_code(newcomer.call("connect", {{"thread", 1}}), pcclSuccess));
        newcomer.start("loop", {{"slot", slot}, {"thread", 1}});
        const std::uint64_t all = (std::uint64_t{2} << slot) - 1;
        for (std::size_t i = 0; i <= slot; ++i) {
            while (world[i].next_event().at("members") != all) {
            }
        }
    }
}

TEST_F(Membership, LeavingShrinksTheWorldForTheOthers) {
    world.join(4);
    EXPECT_TRUE(has_code(world[3].call("destroy"), pcclSuccess));
    std::vector<Json> answers;
    std::vector<int> updates;
    for (std::size_t i = 0; i < 3; ++i)
        updates.push_back(world[i].start("update"));
    for (std::size_t i = 0; i < 3; ++i)
        EXPECT_EQ(world[i].finish(updates[i]).at("world"), 3);
    world.erase(3);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 5000}}))));
}

TEST_F(Membership, PeerJoinsAgainAfterLeaving) {
    world.join(2);
    for (int round = 0; round < 3; ++round) {
        EXPECT_TRUE(has_code(world[1].call("destroy"), pcclSuccess));
        EXPECT_EQ(world[0].call("update").at("world"), 1);
        EXPECT_TRUE(has_code(world[1].call("create", {{"master", world.master_address()}}), pcclSuccess));
        world.join_all(2);
        EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 5000}}))));
    }
}

TEST_F(Membership, OneProcessHoldsSeveralMembers) {
    world.spawn();
    for (int comm = 1; comm < 3; ++comm)
        world[0].call("create", {{"comm", comm}, {"master", world.master_address()}});
    std::vector<int> joins;
    for (int comm = 0; comm < 3; ++comm)
        joins.push_back(world[0].start("join", {{"comm", comm}, {"thread", comm}, {"world", 3}}));
    for (const int join : joins)
        EXPECT_TRUE(has_code(world[0].finish(join), pcclSuccess));
    std::vector<int> reduces;
    for (int comm = 0; comm < 3; ++comm) {
        reduces.push_back(
            world[0].start("reduce", {{"comm", comm}, {"thread", comm}, {"count", 20000}, {"rank", comm}, {"ranks", 3}}));
    }
    std::vector<Json> answers;
    for (const int reduce : reduces)
        answers.push_back(world[0].finish(reduce));
    EXPECT_TRUE(all_right(answers));
}

TEST_F(Membership, ReduceWorksAfterOptimize) {
    world.join(4);
    EXPECT_TRUE(all_have_code(world.call_all("optimize", {}, Millis(60000)), pcclSuccess));
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(4, {{"count", 100000}}))));
    EXPECT_TRUE(all_have_code(world.call_all("optimize", {}, Millis(60000)), pcclSuccess));  // nothing is left to measure
}

TEST_F(Membership, AbortEndsBlockedCallsAndLeavesTheWorldUsable) {
    world.join(3);
    // Two members have called, the third has not.
    for (const std::size_t i : {0U, 1U}) {
        ASSERT_TRUE(has_code(world[i].call("launch", {{"count", 1 << 20}, {"handle", "h"}}), pcclSuccess));
    }
    const int first = world[0].start("await", {{"handle", "h"}});
    const int second = world[1].start("await", {{"handle", "h"}});
    EXPECT_TRUE(has_code(world[0].call("abort"), pcclSuccess));
    const Json aborted = world[0].finish(first, Millis(5000));
    const Json other = world[1].finish(second, Millis(5000));
    EXPECT_TRUE(has_code(aborted, pcclRankConnectionLost));
    EXPECT_TRUE(has_code(other, pcclRankConnectionLost));
    EXPECT_EQ(aborted.at("send_intact"), true);
    // The third member makes its call later, and it fails like those of the others.
    EXPECT_TRUE(has_code(world[2].call("reduce", {{"count", 1 << 20}}), pcclRankConnectionLost));
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 1 << 20}}))));
}

TEST_F(Membership, AbortEndsAWaitingConnect) {
    world.join(1);
    PeerProcess &second = world.spawn();
    const int connect = second.start("connect");
    while (world[0].call("pending").at("pending") != "1") {
    }
    EXPECT_TRUE(has_code(second.call("abort"), pcclSuccess));
    EXPECT_TRUE(has_code(second.finish(connect, Millis(5000)), pcclRankConnectionLost));
}

TEST(IPv6, MasterAndPeersConnectOverLoopback) {
    World world({.host = "::1"});
    world.join(3);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 300000}}))));
    world.call_all("define", {{"tensors", {{{"name", "a"}, {"count", 1000}}}}});
    EXPECT_TRUE(all_have_code(world.call_all("sync"), pcclSuccess));
    EXPECT_TRUE(all_have_code(world.call_all("optimize"), pcclSuccess));
}

TEST(HostNames, PeersFindTheMasterByName) {
    World world;
    world.join(1);
    PeerProcess &second = world.spawn();
    const std::string by_name = "localhost:" + std::to_string(world.master_port());
    EXPECT_TRUE(has_code(second.call("destroy"), pcclSuccess));
    EXPECT_TRUE(has_code(second.call("create", {{"master", by_name}}), pcclSuccess));
    world.join_all(2);
}

}  // namespace
}  // namespace pccl::itest
