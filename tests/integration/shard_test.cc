// Compares reduce-scatter and all-gather, alone and in sequence, with double arithmetic. Tests valid and stale shards, losses,
// misuse and concurrent operations.
#include "harness/reduce.h"

#include <gmock/gmock.h>

#include <set>

namespace pccl::itest {
namespace {

using ::testing::HasSubstr;

struct Matrix {
    int peers;
    const char *algorithm;
};

class ShardMatrix : public ::testing::TestWithParam<Matrix> {};

TEST_P(ShardMatrix, EveryTypeAndOperatorIsExactAndBitIdentical) {
    World world;
    world.join(GetParam().peers);
    std::vector<Json> requests;
    for (int rank = 0; rank < GetParam().peers; ++rank) {
        requests.push_back(
            {{"rank", rank}, {"ranks", GetParam().peers}, {"counts", {1, 7, 700, 100003}}, {"algorithm", GetParam().algorithm}});
    }
    const auto answers = world.call_each("sharded_matrix", requests, Millis(80000));
    for (const Json &answer : answers)
        EXPECT_EQ(answer.value("failures", Json::array()), Json::array());
    EXPECT_TRUE(all_same(answers, "hash"));
    EXPECT_EQ(answers[0].value("cases", 0), 12 * 5 * 4 * 2);
}

INSTANTIATE_TEST_SUITE_P(Peers, ShardMatrix,
                         ::testing::Values(Matrix{2, "auto"}, Matrix{3, "ring"}, Matrix{3, "one-hop"}, Matrix{4, "auto"},
                                           Matrix{5, "auto"}),
                         [](const auto &of) {
                             std::string name = std::to_string(of.param.peers) + "Peers_" + of.param.algorithm;
                             std::erase(name, '-');
                             return name;
                         });

Json shard_of(PeerProcess &peer, std::size_t count) {
    const Json answer = peer.call("shard", {{"count", count}});
    EXPECT_TRUE(has_code(answer, pcclSuccess));
    return answer.at("shard");
}

TEST(Shard, CoversTheWholeBufferOfALonePeer) {
    World world;
    world.join(1);
    const Json shard = shard_of(world[0], 1000);
    EXPECT_EQ(shard.at("first"), 0);
    EXPECT_EQ(shard.at("elements"), 1000);
    EXPECT_EQ(shard.at("world"), 1);
    EXPECT_TRUE(has_code(world[0].call("sharded", {{"count", 1000}}), pcclTooFewPeers));
}

TEST(Shard, MovesOnlyWhenTheMembersChange) {
    World world;
    world.join(3);
    std::vector<Json> before;
    for (std::size_t i = 0; i < 3; ++i)
        before.push_back(shard_of(world[i], 100000));
    ASSERT_TRUE(all_have_code(world.call_all("optimize"), pcclSuccess));
    for (std::size_t i = 0; i < 3; ++i)
        EXPECT_EQ(shard_of(world[i], 100000), before[i]);
    const auto answers = world.call_each("sharded", ranked(3, {{"count", 100000}}));
    EXPECT_TRUE(all_right(answers));
    world.spawn();
    world.join_all(4);
    EXPECT_NE(shard_of(world[0], 100000).at("membership"), before[0].at("membership"));
}

TEST(Shard, StaleShardFailsEverywhereBeforeDataMoves) {
    World world;
    world.join(4);
    std::vector<Json> requests = ranked(4, {{"count", 100000}});
    for (std::size_t i = 0; i < 4; ++i)
        requests[i]["shard"] = shard_of(world[i], 100000);
    world[1].kill();
    world.erase(1);
    requests.erase(requests.begin() + 1);
    ASSERT_TRUE(all_have_code(world.call_all("update"), pcclSuccess));  // all have learned of the loss
    // One of them has asked for its shard again, the others have not.
    requests[2].erase("shard");
    const auto answers = world.call_each("sharded", requests);
    EXPECT_TRUE(all_have_code(answers, pcclRankConnectionLost));
    for (const Json &answer : answers) {
        EXPECT_THAT(answer.at("error").get<std::string>(), HasSubstr("pcclGetShard"));
        EXPECT_EQ(answer.at("failed"), "reduce-scatter");
        EXPECT_EQ(answer.at("send_intact"), true);
    }
    EXPECT_TRUE(all_right(world.call_each("sharded", ranked(3, {{"count", 100000}}))));
}

TEST(Shard, ShardOfALostPeerFailsTheAllGather) {
    World world;
    world.join(3);
    const Json part = {{"count", 100000}, {"type", "uint8"}, {"handle", "h"}};
    Json scatter = part, gather = part;
    scatter["collective"] = "reduce-scatter";
    gather["collective"] = "all-gather";
    std::vector<Json> shards;
    for (std::size_t i = 0; i < 3; ++i)
        shards.push_back(shard_of(world[i], 100000));
    ASSERT_TRUE(all_have_code(world.call_all("launch_part", scatter), pcclSuccess));
    const auto scattered = world.call_all("await_part", {{"handle", "h"}});
    ASSERT_TRUE(all_have_code(scattered, pcclSuccess));
    for (const Json &answer : scattered)
        EXPECT_EQ(answer.at("all"), 3);
    world[2].kill();
    world.erase(2);
    for (std::size_t i = 0; i < 2; ++i) {
        gather["shard"] = shards[i];
        ASSERT_TRUE(has_code(world[i].call("launch_part", gather), pcclSuccess));
    }
    const auto gathered = world.call_all("await_part", {{"handle", "h"}});
    EXPECT_TRUE(all_have_code(gathered, pcclRankConnectionLost));
    for (const Json &answer : gathered)
        EXPECT_EQ(answer.at("given_intact"), true);
    EXPECT_TRUE(all_right(world.call_each("sharded", ranked(2, {{"count", 100000}}))));
}

TEST(Shard, LossFailsItEverywhereAndKeepsInputs) {
    for (const char *collective : {"reduce-scatter", "all-gather"}) {
        for (const char *algorithm : {"ring", "one-hop"}) {
            SCOPED_TRACE(std::string(collective) + " " + algorithm);
            World world;
            world.join(4);
            // Peer 3 never calls, so the operations of the others are in flight when it dies.
            for (std::size_t i = 0; i < 3; ++i) {
                ASSERT_TRUE(has_code(
                    world[i].call("launch_part",
                                  {{"count", 4 << 20}, {"collective", collective}, {"algorithm", algorithm}, {"handle", "h"}}),
                    pcclSuccess));
            }
            world[3].kill();
            world.erase(3);
            const auto answers = world.call_all("await_part", {{"handle", "h"}}, Millis(5000));
            EXPECT_TRUE(all_have_code(answers, pcclRankConnectionLost));
            for (const Json &answer : answers)
                EXPECT_EQ(answer.at("given_intact"), true);
            EXPECT_TRUE(all_right(world.call_each("sharded", ranked(3, {{"count", 4 << 20}, {"algorithm", algorithm}}))));
        }
    }
}

TEST(Shard, AbortEndsItEverywhereAndTheShardStaysValid) {
    World world;
    world.join(3);
    const Json part = {{"count", 1 << 20}, {"collective", "all-gather"}, {"handle", "h"}};
    std::vector<Json> shards;
    for (std::size_t i = 0; i < 3; ++i)
        shards.push_back(shard_of(world[i], 1 << 20));
    for (std::size_t i = 0; i < 2; ++i)
        ASSERT_TRUE(has_code(world[i].call("launch_part", part), pcclSuccess));
    ASSERT_TRUE(has_code(world[0].call("abort"), pcclSuccess));
    for (std::size_t i = 0; i < 2; ++i)
        EXPECT_TRUE(has_code(world[i].call("await_part", {{"handle", "h"}}), pcclRankConnectionLost));
    // The third peer has not made the call that failed; the others have.
    EXPECT_TRUE(has_code(world[2].call("launch_part", part), pcclSuccess));
    EXPECT_TRUE(has_code(world[2].call("await_part", {{"handle", "h"}}), pcclRankConnectionLost));
    std::vector<Json> requests = ranked(3, {{"count", 1 << 20}});
    for (std::size_t i = 0; i < 3; ++i)
        requests[i]["shard"] = shards[i];
    EXPECT_TRUE(all_right(world.call_each("sharded", requests)));
}

TEST(Shard, ConcurrentOperationsOfAllKindsDoNotMix) {
    World world;
    world.join(3);
    constexpr int kRounds = 4;
    for (int round = 0; round < kRounds; ++round) {
        std::vector<Json> answers;
        for (std::size_t i = 0; i < 3; ++i) {
            for (int k = 0; k < 6; ++k) {
                const int at = i % 2 == 0 ? k : 5 - k;  // in reverse order
                const std::string handle = std::to_string(at);
                const Json same = {
                    {"count", 300000 + at * 1000}, {"tag", at}, {"type", "uint8"}, {"handle", handle}, {"value", at + 1}};
                Json request = same;
                if (at % 3 == 0) request["collective"] = "reduce-scatter";
                if (at % 3 == 1) request["collective"] = "all-gather";
                if (at % 3 == 2) request.update({{"rank", i}, {"ranks", 3}, {"type", "float"}});
                ASSERT_TRUE(has_code(world[i].call(at % 3 == 2 ? "launch" : "launch_part", request), pcclSuccess));
            }
        }
        for (int at = 0; at < 6; ++at) {
            answers = world.call_all(at % 3 == 2 ? "await" : "await_part", {{"handle", std::to_string(at)}});
            ASSERT_TRUE(all_have_code(answers, pcclSuccess));
            if (at % 3 == 2) {
                EXPECT_TRUE(all_right(answers));
                continue;
            }
            for (const Json &answer : answers)
                EXPECT_EQ(answer.at("all"), at % 3 == 0 ? 3 * (at + 1) : at + 1) << at;
        }
    }
}

TEST(Shard, DifferentCallsWithOneTagFailWithAText) {
    World world;
    world.join(2);
    const Json base = {{"count", 5000}, {"handle", "h"}, {"collective", "all-gather"}};
    ASSERT_TRUE(has_code(world[0].call("launch_part", base), pcclSuccess));
    const Json other = world[1].call("reduce", {{"count", 5000}});
    const Json one = world[0].call("await_part", {{"handle", "h"}});
    for (const Json &answer : {one, other}) {
        EXPECT_TRUE(has_code(answer, pcclInvalidUsage));
        EXPECT_THAT(answer.at("error").get<std::string>(), HasSubstr("all-gather"));
        EXPECT_THAT(answer.at("error").get<std::string>(), HasSubstr("all-reduce"));
    }
    EXPECT_TRUE(all_right(world.call_each("sharded", ranked(2, {{"count", 5000}}))));
}

TEST(Shard, QuantizedResultIsAsCloseAsThatOfTheAllReduce) {
    for (const char *quant : {"minmax:u8", "zps:i16", "blockscale:i8", "blockscale:i4:64:pow2", "minmax:u4", "blockscale:u2"}) {
        for (const char *algorithm : {"ring", "one-hop"}) {
            for (const bool in_place : {false, true}) {
                SCOPED_TRACE(std::string(quant) + " " + algorithm);
                World world;
                world.join(3);
                const Json base = {
                    {"count", 300001}, {"quant", quant}, {"algorithm", algorithm}, {"op", "avg"}, {"in_place", in_place}};
                const auto reduced = world.call_each("reduce", ranked(3, base));
                ASSERT_TRUE(all_right(reduced));
                const auto sharded = world.call_each("sharded", ranked(3, base));
                EXPECT_TRUE(all_same(sharded, "hash"));
                for (const Json &answer : sharded) {
                    // The all-gather rounds once more.
                    EXPECT_LE(answer.at("relative_error").get<double>(), 2 * reduced[0].at("relative_error").get<double>() + 1e-6)
                        << answer.dump();
                    EXPECT_LT(answer.at("scatter_tx").get<double>() + answer.at("gather_tx").get<double>(),
                              1.02 * reduced[0].at("tx").get<double>() + 4096);
                }
            }
        }
    }
}

TEST(Shard, BothHalvesSendAsManyBytesAsTheAllReduce) {
    World world;
    world.join(4);
    const auto reduced = world.call_each("reduce", ranked(4, {{"count", 1 << 20}, {"algorithm", "ring"}}));
    for (const char *algorithm : {"ring", "one-hop"}) {
        const auto sharded = world.call_each("sharded", ranked(4, {{"count", 1 << 20}, {"algorithm", algorithm}}));
        ASSERT_TRUE(all_right(sharded));
        for (std::size_t i = 0; i < 4; ++i) {
            const double both = sharded[i].at("scatter_tx").get<double>() + sharded[i].at("gather_tx").get<double>();
            EXPECT_NEAR(both / reduced[i].at("tx").get<double>(), 1.0, 0.02);
            EXPECT_EQ(sharded[i].at("scattered_by"), algorithm);
            EXPECT_EQ(sharded[i].at("gathered_by"), algorithm);
        }
    }
}

}  // namespace
}  // namespace pccl::itest
