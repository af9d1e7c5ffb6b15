// Reduces with 16-bit ranges, special values, concurrent operations, other orders of launch, tags and groups.
#include "harness/reduce.h"

#include <tuple>

namespace pccl::itest {
namespace {

class Reduce : public ::testing::Test {
protected:
    World world;
};

TEST_F(Reduce, AverageOfHalvesDoesNotOverflow) {
    world.join(4);
    const auto answers =
        world.call_each("reduce", ranked(4, {{"count", 5000}, {"type", "half"}, {"op", "avg"}, {"pattern", "constant:60000"}}));
    EXPECT_TRUE(all_right(answers));
    EXPECT_EQ(answers[0].at("first"), 60000.0);  // the sum of four is 240000, and binary16 ends at 65504
}

TEST_F(Reduce, SixteenBitFloatsAreRoundedOnce) {
    world.join(8);
    // One unit in the last place above 1, at eight peers: partial sums rounded to 16 bits would lose it.
    for (const auto &[type, term, sum] :
         {std::tuple{"half", "constant:1.0009765625", 8.0078125}, std::tuple{"bfloat16", "constant:1.0078125", 8.0625}}) {
        const auto answers = world.call_each("reduce", ranked(8, {{"count", 1000}, {"type", type}, {"pattern", term}}));
        EXPECT_TRUE(all_right(answers));
        EXPECT_EQ(answers[0].at("first"), sum) << type;
    }
}

TEST_F(Reduce, NanAndInfinityStayVisible) {
    world.join(3);
    for (const char *type : {"float", "double", "half", "bfloat16"}) {
        for (const char *op : {"sum", "avg", "prod"}) {  // a maximum may drop a negative infinity
            const auto answers =
                world.call_each("reduce", ranked(3, {{"count", 20000}, {"type", type}, {"op", op}, {"pattern", "nonfinite"}}));
            EXPECT_TRUE(all_right(answers)) << type << ' ' << op;
        }
    }
}

TEST_F(Reduce, LonePeerReceivesTooFewPeers) {
    world.join(1);
    for (const bool in_place : {false, true}) {
        const Json answer = world[0].call("reduce", {{"count", 1000}, {"in_place", in_place}});
        EXPECT_TRUE(has_code(answer, pcclTooFewPeers));
        EXPECT_EQ(answer.at("send_intact"), true);
        EXPECT_EQ(answer.at("receive_untouched"), true);
    }
    const Json answer = world[0].call("multiple", {{"ops", {{{"count", 10}, {"tag", 1}}, {{"count", 20}, {"tag", 2}}}}});
    EXPECT_TRUE(has_code(answer, pcclTooFewPeers));
}

TEST_F(Reduce, InfoCountsPeersAndBytes) {
    world.join(3);
    const auto answers = world.call_each("reduce", ranked(3, {{"count", 1 << 20}}));
    EXPECT_TRUE(all_right(answers));
    for (const Json &answer : answers) {
        EXPECT_EQ(answer.at("peers"), 3);
        // A ring moves 2(n-1)/n of the buffer each way; headers are small compared with it.
        EXPECT_GE(answer.at("tx").get<double>(), 4.0 / 3 * (4 << 20) * 0.99);
        EXPECT_LE(answer.at("tx").get<double>(), 4.0 / 3 * (4 << 20) * 1.05);
        EXPECT_GE(answer.at("rx").get<double>(), 4.0 / 3 * (4 << 20) * 0.99);
    }
}

TEST_F(Reduce, ReportNamesTheAlgorithmAndTheBytes) {
    world.join(3, {.lanes = 2});
    struct {
        const char *asked;
        std::size_t count;
        const char *taken;
    } const cases[] = {{"auto", 1000, "direct"},
                       {"auto", 8 << 20, "ring"},
                       {"ring", 1000, "ring"},
                       {"direct", 200000, "direct"},
                       {"direct", 300000, "one-hop"}};
    for (const auto &c : cases) {
        const auto answers = world.call_each("reduce", ranked(3, {{"count", c.count}, {"algorithm", c.asked}}));
        EXPECT_TRUE(all_right(answers)) << c.asked << ' ' << c.count;
        for (const Json &answer : answers) {
            EXPECT_EQ(answer.at("algorithm"), c.taken) << c.asked << ' ' << c.count;
            EXPECT_EQ(answer.at("lanes"), 2);
            EXPECT_GT(answer.at("chunk_bytes"), 0);
            EXPECT_LE(answer.at("chunk_bytes"), 4 * c.count);
            if (std::string(c.taken) == "direct") {
                EXPECT_EQ(answer.at("chunk_bytes"), 4 * c.count);
            }
        }
    }
}

TEST_F(Reduce, TagsAreReusable) {
    world.join(3);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 777}, {"tag", 5}, {"times", 200}}))));
    EXPECT_TRUE(
        all_right(world.call_each("reduce", ranked(3, {{"count", 12345}, {"tag", 5}, {"type", "int32"}, {"op", "max"}}))));
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 3}, {"tag", ~std::uint64_t{0}}}))));
}

/// Launches `operations` at each peer, from two threads, in an order that differs from peer to peer; awaits all.
void launch_in_different_orders(World &world, int peers, int operations, std::size_t count) {
    std::vector<std::vector<int>> waits(static_cast<std::size_t>(peers));
    for (int rank = 0; rank < peers; ++rank) {
        for (int i = 0; i < operations; ++i) {
            const int tag = (rank % 2 == 0 ? i : operations - 1 - i);
            const Json request = {{"count", count + static_cast<std::size_t>(tag)},
                                  {"tag", tag},
                                  {"rank", rank},
                                  {"ranks", peers},
                                  {"handle", std::to_string(tag)},
                                  {"thread", 1 + (i + rank) % 2}};
            world[static_cast<std::size_t>(rank)].start("launch", request);
        }
        for (int i = 0; i < operations; ++i) {
            const int tag = (i + rank) % operations;
            // Awaited by the thread that launched it, so that the await comes after the launch.
            const int position = rank % 2 == 0 ? tag : operations - 1 - tag;
            waits[static_cast<std::size_t>(rank)].push_back(world[static_cast<std::size_t>(rank)].start(
                "await", {{"handle", std::to_string(tag)}, {"thread", 1 + (position + rank) % 2}}));
        }
    }
    for (int rank = 0; rank < peers; ++rank) {
        for (const int wait : waits[static_cast<std::size_t>(rank)]) {
            const Json answer = world[static_cast<std::size_t>(rank)].finish(wait);
            ASSERT_TRUE(has_code(answer, pcclSuccess));
            ASSERT_EQ(answer.at("wrong"), 0) << answer.dump();
            ASSERT_EQ(answer.at("peers"), peers);
        }
    }
}

TEST_F(Reduce, TwoThreadsLaunchInDifferentOrders) {
    world.join(4);
    launch_in_different_orders(world, 4, 16, 50000);
    launch_in_different_orders(world, 4, 16, 3);
    launch_in_different_orders(world, 4, 4, 1 << 20);
}

TEST_F(Reduce, LargeOperationsInOppositeOrderDoNotBlock) {
    world.join(2);
    // Each peer has launched the operation that the other has not. The data exceed every socket buffer.
    const Json big = {{"count", 8 << 20}, {"ranks", 2}};
    for (int rank = 0; rank < 2; ++rank) {
        for (int i = 0; i < 2; ++i) {
            Json request = big;
            request["rank"] = rank;
            request["tag"] = (i + rank) % 2;
            request["handle"] = std::to_string((i + rank) % 2);
            EXPECT_TRUE(has_code(world[static_cast<std::size_t>(rank)].call("launch", request), pcclSuccess));
        }
    }
    for (const char *handle : {"1", "0"}) {
        const auto answers = world.call_all("await", {{"handle", handle}});
        EXPECT_TRUE(all_right(answers));
    }
}

TEST_F(Reduce, HandleAwaitedTwiceIsInvalidUsage) {
    world.join(2);
    EXPECT_TRUE(all_have_code(world.call_each("launch", ranked(2, {{"count", 1000}, {"handle", "h"}})), pcclSuccess));
    EXPECT_TRUE(all_right(world.call_all("await", {{"handle", "h"}})));
    EXPECT_TRUE(all_have_code(world.call_all("await", {{"handle", "h"}}), pcclInvalidUsage));
}

TEST_F(Reduce, OutstandingOperationsForbidOtherCalls) {
    world.join(2);
    world.call_all("define", {{"tensors", {{{"name", "a"}, {"count", 10}}}}});
    EXPECT_TRUE(all_have_code(world.call_each("launch", ranked(2, {{"count", 1000}, {"handle", "h"}})), pcclSuccess));
    EXPECT_TRUE(all_have_code(world.call_all("update"), pcclPendingAsyncOps));
    EXPECT_TRUE(all_have_code(world.call_all("optimize"), pcclPendingAsyncOps));
    EXPECT_TRUE(all_have_code(world.call_all("sync"), pcclPendingAsyncOps));
    EXPECT_TRUE(all_have_code(world.call_all("pending"), pcclSuccess));  // allowed
    EXPECT_TRUE(all_right(world.call_all("await", {{"handle", "h"}})));
    EXPECT_TRUE(all_have_code(world.call_all("update"), pcclSuccess));
}

TEST_F(Reduce, GroupsReduceSeparately) {
    for (int i = 0; i < 5; ++i)
        world.spawn({.group = i < 2 ? 0 : 7});
    world.join_all(5);
    for (const Json &answer : world.call_all("attributes")) {
        EXPECT_EQ(answer.at("world"), 5);
        EXPECT_EQ(answer.at("groups"), 2);
        EXPECT_EQ(answer.at("largest"), 3);
    }
    auto requests = ranked(2, {{"count", 30000}});
    for (const Json &request : ranked(3, {{"count", 40000}, {"type", "double"}}))
        requests.push_back(request);
    const auto answers = world.call_each("reduce", requests);
    EXPECT_TRUE(all_right({answers[0], answers[1]}));
    EXPECT_TRUE(all_right({answers[2], answers[3], answers[4]}));
    EXPECT_EQ(answers[0].at("peers"), 2);
    EXPECT_EQ(answers[4].at("peers"), 3);
}

TEST_F(Reduce, MultipleLimitsOperationsInFlight) {
    world.join(3);
    std::vector<Json> requests;
    for (int rank = 0; rank < 3; ++rank) {
        Json ops = Json::array();
        for (int i = 0; i < 20; ++i) {
            ops.push_back(
                {{"count", 1000 * (i + 1)}, {"tag", i}, {"op", i % 2 == 0 ? "sum" : "max"}, {"rank", rank}, {"ranks", 3}});
        }
        // The operations in flight can differ between peers.
        requests.push_back({{"ops", ops}, {"max_in_flight", 1 + rank * 3}});
    }
    const auto answers = world.call_each("multiple", requests);
    EXPECT_TRUE(all_have_code(answers, pcclSuccess));
    for (const Json &answer : answers) {
        EXPECT_EQ(answer.at("peers"), 3);
        for (const Json &result : answer.at("results"))
            EXPECT_EQ(result.at("wrong"), 0) << result.dump();
    }
}

TEST_F(Reduce, LanesMayDiffer) {
    for (const int lanes : {1, 4, 9})
        world.spawn({.lanes = lanes});
    world.join_all(3);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 1 << 20}, {"times", 3}}))));
}

}  // namespace
}  // namespace pccl::itest
