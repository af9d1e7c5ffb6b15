// Messages between any two peers: each is delivered exactly once or fails definitely, including while connections and peers fail.
#include "harness/master_process.h"
#include "harness/reduce.h"

#include <pccl/exchange.h>

#include <gmock/gmock.h>

#include <iostream>
#include <map>
#include <random>
#include <set>
#include <thread>

namespace pccl::itest {
namespace {

std::vector<std::string> ranks_of(World &world) {
    std::vector<std::string> ranks;
    for (const Json &answer : world.call_all("rank"))
        ranks.push_back(answer.at("rank"));
    return ranks;
}

void await_members(PeerProcess &peer, std::size_t count) {
    while (peer.call("members").at("members").size() != count)
        std::this_thread::sleep_for(Millis(5));
}

TEST(Exchange, EveryPeerReachesEveryPeer) {
    World world;
    world.join(4);
    const auto ranks = ranks_of(world);
    std::uint64_t seed = 0;
    for (const std::size_t bytes :
         {std::size_t{0}, std::size_t{1}, std::size_t{16 << 10}, std::size_t{(16 << 10) + 1}, std::size_t{5'000'003}}) {
        for (std::size_t from = 0; from < 4; ++from) {
            const std::size_t to = (from + 1 + seed % 3) % 4;
            ASSERT_TRUE(has_code(world[from].call("post", {{"to", ranks[to]}, {"tag", 5}, {"bytes", bytes}, {"seed", ++seed}}),
                                 pcclSuccess));
            const Json got = world[to].call("receive", {{"tag", 5}, {"bytes", bytes}, {"seed", seed}});
            ASSERT_TRUE(has_code(got, pcclSuccess));
            EXPECT_EQ(got.at("bytes"), bytes);
            EXPECT_EQ(got.at("from"), ranks[from]);
            EXPECT_EQ(got.at("right"), true);
            EXPECT_TRUE(has_code(world[from].call("await_post"), pcclSuccess));
        }
    }
    EXPECT_EQ(world[2].call("members").at("members"), Json(std::set<std::string>(ranks.begin(), ranks.end())))
        << "in the order of their names";
}

TEST(Exchange, TagsDoNotMixAndASmallBufferLosesNothing) {
    World world;
    world.join(2);
    const auto ranks = ranks_of(world);
    ASSERT_TRUE(
        has_code(world[0].call("post", {{"to", ranks[1]}, {"tag", 1}, {"bytes", 100}, {"seed", 1}, {"post", "a"}}), pcclSuccess));
    ASSERT_TRUE(
        has_code(world[0].call("post", {{"to", ranks[1]}, {"tag", 2}, {"bytes", 200}, {"seed", 2}, {"post", "b"}}), pcclSuccess));
    EXPECT_EQ(world[1].call("receive", {{"tag", 2}, {"seed", 2}}).at("right"), true);
    EXPECT_TRUE(has_code(world[1].call("receive", {{"tag", 2}, {"timeout_ms", 0}}), pcclTimeout));
    const Json small = world[1].call("receive", {{"tag", 1}, {"bytes", 99}});
    EXPECT_TRUE(has_code(small, pcclInvalidArgument));
    EXPECT_EQ(small.at("bytes"), 100);
    EXPECT_EQ(world[1].call("receive", {{"tag", 1}, {"seed", 1}}).at("right"), true);
}

TEST(Exchange, NonMemberIsReportedAtOnce) {
    World world;
    world.join(2);
    const auto ranks = ranks_of(world);
    EXPECT_TRUE(has_code(world[0].call("post", {{"to", ranks[0]}}), pcclInvalidArgument));
    EXPECT_TRUE(has_code(world[0].call("post", {{"to", std::string(32, '0')}}), pcclInvalidArgument));
}

TEST(Exchange, FullMailboxBlocksSendersButNoReduce) {
    World world;
    world.join(3);
    const auto ranks = ranks_of(world);
    ASSERT_TRUE(has_code(world[2].call("mailbox", {{"bytes", 1'000'000}}), pcclSuccess));
    ASSERT_TRUE(
        has_code(world[0].call("post", {{"to", ranks[2]}, {"bytes", 900'000}, {"seed", 1}, {"post", "first"}}), pcclSuccess));
    ASSERT_TRUE(has_code(world[0].call("await_post", {{"post", "first"}}), pcclSuccess));
    ASSERT_TRUE(
        has_code(world[1].call("post", {{"to", ranks[2]}, {"bytes", 900'000}, {"seed", 2}, {"post", "waits"}}), pcclSuccess));
    ASSERT_TRUE(has_code(
        world[0].call("post", {{"to", ranks[2]}, {"bytes", 900'000}, {"seed", 3}, {"timeout_ms", 100}, {"post", "gives up"}}),
        pcclSuccess));
    EXPECT_TRUE(has_code(world[0].call("await_post", {{"post", "gives up"}}), pcclRankConnectionFailed));
    EXPECT_TRUE(has_code(world[1].call("await_post", {{"post", "waits"}, {"timeout_ms", 0}}), pcclTimeout));
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 300'000}}))));
    ASSERT_TRUE(has_code(world[0].call("post", {{"to", ranks[2]}, {"bytes", 1'000'001}, {"post", "too large"}}), pcclSuccess));
    EXPECT_TRUE(has_code(world[0].call("await_post", {{"post", "too large"}, {"timeout_ms", 200}}), pcclTimeout))
        << "the message is queued behind the others";
    EXPECT_EQ(world[2].call("receive", {{"seed", 1}}).at("right"), true);
    EXPECT_EQ(world[2].call("receive", {{"seed", 2}}).at("right"), true);
    EXPECT_TRUE(has_code(world[1].call("await_post", {{"post", "waits"}}), pcclSuccess));
    EXPECT_TRUE(has_code(world[0].call("await_post", {{"post", "too large"}}), pcclInvalidArgument));
    EXPECT_TRUE(has_code(world[2].call("receive", {{"timeout_ms", 0}}), pcclTimeout)) << "an abandoned message was delivered";
}

TEST(Exchange, DeadReceiverIsReportedAndDeadSenderLeavesNoPart) {
    World world({.heartbeat_timeout_ms = 2000});
    world.join(3);
    const auto ranks = ranks_of(world);
    world[1].stop();
    ASSERT_TRUE(has_code(world[0].call("post", {{"to", ranks[1]}, {"bytes", 50'000'000}, {"post", "to the dead"}}), pcclSuccess));
    const int awaited = world[0].start("await_post", {{"post", "to the dead"}});
    world[1].kill();
    EXPECT_TRUE(has_code(world[0].finish(awaited), pcclRankConnectionLost));
    await_members(world[0], 2);
    EXPECT_TRUE(has_code(world[0].call("post", {{"to", ranks[1]}}), pcclInvalidArgument));

    // A message that had arrived whole when its sender died is received; a partial one is not.
    ASSERT_TRUE(has_code(world[0].call("mailbox", {{"bytes", 100'000'000}}), pcclSuccess));
    ASSERT_TRUE(
        has_code(world[2].call("post", {{"to", ranks[0]}, {"bytes", 70'000'000}, {"seed", 8}, {"post", "whole"}}), pcclSuccess));
    ASSERT_TRUE(has_code(world[2].call("await_post", {{"post", "whole"}}), pcclSuccess));
    ASSERT_TRUE(
        has_code(world[2].call("post", {{"to", ranks[0]}, {"bytes", 70'000'000}, {"seed", 9}, {"post", "part"}}), pcclSuccess));
    world[2].kill();
    await_members(world[0], 1);
    EXPECT_EQ(world[0].call("receive", {{"bytes", 70'000'000}, {"seed", 8}}).at("right"), true);
    EXPECT_TRUE(has_code(world[0].call("receive", {{"timeout_ms", 0}}), pcclTimeout));
}

TEST(Exchange, AbortWakesWaitingCalls) {
    World world;
    world.join(2);
    const auto ranks = ranks_of(world);
    ASSERT_TRUE(has_code(world[1].call("mailbox", {{"messages", 1}}), pcclSuccess));
    for (const char *name : {"first", "second"})
        ASSERT_TRUE(has_code(world[0].call("post", {{"to", ranks[1]}, {"bytes", 1}, {"post", name}}), pcclSuccess));
    const int awaited = world[0].start("await_post", {{"post", "second"}, {"thread", 1}});
    const int receiving = world[0].start("receive", {{"tag", 1}, {"thread", 2}});
    while (!world[0].answered(awaited) || !world[0].answered(receiving)) {  // each abort wakes the calls that wait at that time
        world[0].call("abort");
        std::this_thread::sleep_for(Millis(2));  // between two attempts; the loop ends on the answers
    }
    EXPECT_TRUE(has_code(world[0].finish(awaited), pcclTimeout));
    EXPECT_TRUE(has_code(world[0].finish(receiving), pcclRankConnectionLost));
    EXPECT_EQ(world[1].call("receive", {}).at("code"), 0);
    EXPECT_TRUE(has_code(world[0].call("await_post", {{"post", "second"}}), pcclSuccess))
        << "an abort ends the waiting, not the message";
}

/// Ends the loops at the peers and compares the accounts of each pair.
void compare(World &world, const std::vector<int> &loops, std::uint64_t *mass = nullptr) {
    for (std::size_t i = 0; i < world.size(); ++i)
        world[i].call("stop_loop");
    for (std::size_t i = 0; i < world.size(); ++i)
        ASSERT_TRUE(has_code(world[i].finish(loops[i]), pcclSuccess));
    const auto answers = world.call_all("drain");
    std::uint64_t messages = 0;
    std::string outcomes;
    for (const Json &receiver : answers) {
        EXPECT_EQ(receiver.at("wrong"), 0) << receiver.dump();
        if (mass) *mass += receiver.at("mass").get<std::uint64_t>();
        outcomes.append(" ").append(receiver.at("outcomes").dump());
        for (const Json &sender : answers) {
            const Json none = {0, 0};
            const Json sent = sender.value("delivered", Json::object()).value(receiver.at("rank").get<std::string>(), none);
            const Json got = receiver.value("received", Json::object()).value(sender.at("rank").get<std::string>(), none);
            EXPECT_EQ(sent, got) << "from " << sender.at("rank") << " to " << receiver.at("rank");
            messages += got[0].get<std::uint64_t>();
        }
    }
    EXPECT_GT(messages, 20U);
    std::cout << messages << " messages among " << answers.size() << " peers; outcomes:" << outcomes << "\n";
}

std::vector<int> start_gossip(World &world, const Json &how) {
    std::vector<int> loops;
    for (std::size_t i = 0; i < world.size(); ++i) {
        loops.push_back(world[i].start("gossip", how));
    }
    return loops;
}

TEST(Exchange, MessagesAreConservedWhileConnectionsBreak) {
    World world;
    world.join(4, {.lanes = 3});
    const auto loops = start_gossip(world, {{"thread", 1}, {"bytes", 2'000'000}, {"mass", 1'000'000'007}});
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    for (int i = 0; i < 12; ++i) {
        std::this_thread::sleep_for(Millis(random() % 300));  // links break at random times on purpose
        EXPECT_GT(world[random() % 4].call("break_link", {{"spared", world.master_port()}, {"thread", 2}}).at("lanes"), 0);
    }
    std::uint64_t mass = 0;
    compare(world, loops, &mass);
    EXPECT_EQ(mass, 4 * std::uint64_t{1'000'000'007});
}

TEST(Exchange, MessagesPassDuringReducesWithASmallMailbox) {
    World world;
    world.join(3);
    world.call_all("mailbox", {{"bytes", 600'000}, {"messages", 3}});
    const auto loops = start_gossip(world, {{"thread", 1}, {"bytes", 500'000}, {"mass", 999'999'937}, {"timeout_ms", 20}});
    for (int i = 0; i < 20; ++i)
        EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 200'000}, {"thread", 2}}))));
    std::uint64_t mass = 0;
    compare(world, loops, &mass);
    EXPECT_EQ(mass, 3 * std::uint64_t{999'999'937});
}

TEST(Exchange, PairsAgreeWhilePeersDieAndNewcomersJoin) {
    World world({.heartbeat_timeout_ms = 3000});
    world.join(5);
    auto loops = start_gossip(world, {{"thread", 1}, {"bytes", 300'000}});
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    for (int i = 0; i < 3; ++i) {
        std::this_thread::sleep_for(Millis(100 + random() % 200));  // peers die at random times on purpose
        const std::size_t victim = random() % world.size();
        world[victim].kill();
        world.erase(victim);
        loops.erase(loops.begin() + static_cast<std::ptrdiff_t>(victim));
        const std::size_t left = world.size();
        for (std::size_t p = 0; p < left; ++p) {  // until it has learned of the loss
            while (world[p].call("attributes", {{"thread", 2}}).at("world") > left)
                world[p].call("pending", {{"thread", 2}});
        }
        world.spawn();
        for (std::size_t p = 0; p < left; ++p)
            world[p].start("join", {{"world", left + 1}, {"thread", 2}});
        ASSERT_TRUE(has_code(world[left].call("join", {{"world", left + 1}, {"thread", 2}}), pcclSuccess));
        loops.push_back(world[left].start("gossip", {{"thread", 1}, {"bytes", 300'000}}));
    }
    std::this_thread::sleep_for(Millis(300));  // some messages pass in the last membership, too
    compare(world, loops);
}

/// Waits until every peer has received that change of the graph. All neighbours must then be mutual and of the right number.
void expect_graph(World &world, std::uint64_t epoch, std::size_t degree) {
    std::map<std::string, std::set<std::string>> graph;
    for (std::size_t i = 0; i < world.size(); ++i) {
        Json told;
        do
            told = world[i].call("neighbours");
        while (told.at("epoch").get<std::uint64_t>() < epoch);
        ASSERT_EQ(told.at("epoch"), epoch);
        graph[world[i].call("rank").at("rank")] = told.at("neighbours").get<std::set<std::string>>();
    }
    for (const auto &[rank, neighbours] : graph) {
        EXPECT_GE(neighbours.size(), std::min(degree, graph.size() - 1));
        for (const auto &other : neighbours)
            EXPECT_TRUE(graph.at(other).contains(rank));
    }
}

TEST(Exchange, NeighboursStayMutualThroughLossAndRestart) {
    MasterProcess master;
    World world({.master = master.address()});
    world.join(5);
    const Json graph = {{"kind", pcclGraphRandomRegular}, {"degree", 2}, {"seed", 3}};
    EXPECT_EQ(world[0].call("neighbours").at("neighbours").size(), 0U);
    for (const Json &answer : world.call_all("set_graph", graph))
        EXPECT_TRUE(has_code(answer, pcclSuccess));
    expect_graph(world, 1, 2);
    const Json other = world[1].call("set_graph", {{"kind", pcclGraphRing}});
    EXPECT_TRUE(has_code(other, pcclInvalidUsage));
    EXPECT_THAT(other.at("error").get<std::string>(), testing::HasSubstr("another graph"));
    world[2].kill();
    world.erase(2);
    expect_graph(world, 2, 2);
    master.kill();
    master.start();
    EXPECT_TRUE(has_code(world[3].call("set_graph", graph), pcclSuccess)) << "the restarted master knows it";
    expect_graph(world, 2, 2);
    for (std::size_t i = 0; i < world.size(); ++i) {  // until each has learned of the loss
        while (world[i].call("attributes").at("world") > 4)
            world[i].call("pending");
    }
    world.spawn();
    world.join_all(5);
    expect_graph(world, 3, 2);
}

}  // namespace
}  // namespace pccl::itest
