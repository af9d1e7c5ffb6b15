// All-reduces in two hops are correct for every type, operator and quantization, give the same bits at every peer, and work in
// any order of calls. Failures leave inputs unchanged. The memory for a slow peer is bounded.
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <iostream>
#include <map>
#include <thread>

namespace pccl::itest {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

Json one_hop(Json request) {
    request["algorithm"] = "one-hop";
    return request;
}

class OneHopMatrix : public ::testing::TestWithParam<int> {};

TEST_P(OneHopMatrix, EveryTypeAndOperatorIsExactAndBitIdentical) {
    const int peers = GetParam();
    World world;
    world.join(peers);
    const auto answers = world.call_each("matrix", ranked(peers, one_hop({{"counts", {1, 2, 7, 1000, 100003}}})), Millis(80000));
    for (const Json &answer : answers)
        EXPECT_EQ(answer.value("failures", Json::array()), Json::array());
    EXPECT_TRUE(all_same(answers, "hash"));
    EXPECT_EQ(answers[0].value("cases", 0), 12 * 5 * 5 * 2);
}

INSTANTIATE_TEST_SUITE_P(Peers, OneHopMatrix, ::testing::Values(2, 3, 8), ::testing::PrintToStringParamName());

TEST(OneHop, EveryQuantizationIsWithinToleranceAndBitIdentical) {
    World world;
    for (int peers = 2; peers <= 4; ++peers) {
        world.spawn();
        if (peers == 2) world.spawn();
        world.join_all(peers);
        for (const char *type : {"float", "double", "half", "bfloat16"}) {
            for (const char *op : {"sum", "avg", "prod", "max", "min"}) {
                for (const char *quant :
                     {"minmax:u8", "zps:i16", "blockscale:i8", "blockscale:i8:512", "blockscale:i4", "blockscale:i4:64:pow2",
                      "minmax:u4", "zps:u2", "blockscale:u4", "blockscale:u2:64:pow2"}) {
                    for (const int count : {3, 10007}) {
                        const Json request =
                            one_hop({{"count", count}, {"type", type}, {"op", op}, {"quant", quant}, {"offset", 1}});
                        const auto answers = world.call_each("reduce", ranked(peers, request));
                        // A relative error over three elements means little: one of them may be far off.
                        ASSERT_TRUE(count < 1000 || all_right(answers)) << type << ' ' << op << ' ' << quant;
                        ASSERT_TRUE(all_same(answers, "hash")) << type << ' ' << op << ' ' << quant;
                        ASSERT_EQ(answers[0].at("algorithm"), "one-hop");
                    }
                }
            }
        }
    }
}

TEST(OneHop, ErrorOfAQuantizedMeanDoesNotGrowWithTheGroup) {
    std::map<std::string, std::vector<double>> errors;
    World world;
    for (const int peers : {2, 4, 8}) {
        while (static_cast<int>(world.size()) < peers)
            world.spawn();
        world.join_all(peers);
        for (const char *quant :
             {"blockscale:i8", "blockscale:i4", "blockscale:i8:32:pow2", "minmax:u8", "blockscale:u4", "blockscale:u2",
              "blockscale:u4:32:pow2", "blockscale:u2:32:pow2", "minmax:u4", "minmax:u2", "zps:u4", "zps:u2"}) {
            for (const char *algorithm : {"ring", "one-hop"}) {
                const auto answers = world.call_each("reduce", ranked(peers, {{"count", 1 << 18},
                                                                              {"quant", quant},
                                                                              {"op", "avg"},
                                                                              {"pattern", "normal:0,1"},
                                                                              {"algorithm", algorithm}}));
                EXPECT_TRUE(all_right(answers));
                errors[std::string(quant) + " " + algorithm].push_back(answers[0].at("relative_error"));
            }
        }
    }
    for (const auto &[name, error] : errors) {
        std::cout << name << ": " << error[0] << ' ' << error[1] << ' ' << error[2] << '\n';
        if (!name.ends_with("one-hop")) continue;
        // The error of such a coarse grid depends on the position of the sums on it.
        const bool coarse = name.find("pow2") != std::string::npos || name.find(":u2") != std::string::npos;
        EXPECT_NEAR(error[2] / error[0], 1, coarse ? 0.12 : 0.04) << name;
    }
    for (const char *algorithm : {"ring", "one-hop"})
        EXPECT_LE(errors[std::string("blockscale:i8 ") + algorithm][2], 0.012);
}

TEST(OneHop, IsUsedForBlockScalesCoarseTypesAndOnRequest) {
    World world;
    world.join(3);
    const auto taken = [&](const Json &request) { return world.call_each("reduce", ranked(3, request))[0].at("algorithm"); };
    EXPECT_EQ(taken({{"count", 100000}, {"quant", "blockscale:i8"}}), "one-hop");
    EXPECT_EQ(taken({{"count", 100000}, {"quant", "minmax:u8"}}), "ring");
    for (const char *quant : {"minmax:u4", "minmax:u2", "zps:u4", "zps:u2", "blockscale:u4", "blockscale:u2"})
        EXPECT_EQ(taken({{"count", 100000}, {"quant", quant}}), "one-hop") << quant;
    EXPECT_EQ(taken({{"count", 100000}, {"quant", "minmax:u2"}, {"algorithm", "ring"}}), "ring");
    EXPECT_EQ(taken({{"count", 100000}, {"quant", "blockscale:i4"}, {"algorithm", "ring"}}), "ring");
    EXPECT_EQ(taken({{"count", 100000}, {"algorithm", "one-hop"}}), "one-hop");
    EXPECT_EQ(taken({{"count", 300000}, {"algorithm", "direct"}}), "one-hop") << "too large for a direct exchange";
}

TEST(OneHop, ConcurrentOperationsSurviveDifferentOrders) {
    World world;
    world.join(4);
    constexpr int kOperations = 12;
    for (const char *quant : {"none", "blockscale:i8"}) {
        for (std::size_t rank = 0; rank < 4; ++rank) {
            for (int i = 0; i < kOperations; ++i) {
                const int tag = rank % 2 == 0 ? i : kOperations - 1 - i;
                const Json request = one_hop({{"count", 60000 * (1 + tag % 5)},
                                              {"tag", tag},
                                              {"rank", rank},
                                              {"ranks", 4},
                                              {"quant", quant},
                                              {"in_place", tag % 2 == 0},
                                              {"handle", std::to_string(tag)}});
                ASSERT_TRUE(has_code(world[rank].call("launch", request), pcclSuccess));
            }
        }
        for (int tag = 0; tag < kOperations; ++tag)
            EXPECT_TRUE(all_right(world.call_all("await", {{"handle", std::to_string(tag)}}))) << tag;
    }
}

TEST(OneHop, LargeOperationsInOppositeOrderDoNotBlock) {
    World world;
    world.join(2);
    for (std::size_t rank = 0; rank < 2; ++rank) {
        for (std::size_t i = 0; i < 2; ++i) {
            const Json request = one_hop({{"count", 8 << 20},
                                          {"ranks", 2},
                                          {"rank", rank},
                                          {"tag", (i + rank) % 2},
                                          {"handle", std::to_string((i + rank) % 2)}});
            EXPECT_TRUE(has_code(world[rank].call("launch", request), pcclSuccess));
        }
    }
    for (const char *handle : {"1", "0"})
        EXPECT_TRUE(all_right(world.call_all("await", {{"handle", handle}})));
}

TEST(OneHop, LossFailsItEverywhereAndTheInputIsIntact) {
    for (const char *quant : {"none", "blockscale:i8"}) {
        for (const bool in_place : {false, true}) {
            World world;
            world.join(4);
            const Json request = one_hop({{"count", 16 << 20}, {"quant", quant}, {"in_place", in_place}, {"handle", "h"}});
            for (std::size_t i = 0; i < 4; ++i) {
                Json mine = request;
                mine["rank"] = i;
                ASSERT_TRUE(has_code(world[i].call("launch", mine), pcclSuccess));
            }
            world[3].kill();  // while data is in flight
            for (std::size_t i = 0; i < 3; ++i) {
                const Json answer = world[i].call("await", {{"handle", "h"}}, Millis(5000 * kSlowdown));
                EXPECT_TRUE(has_code(answer, pcclRankConnectionLost));
                EXPECT_EQ(answer.at("send_intact"), true);
            }
            world.erase(3);
            const auto again =
                world.call_each("reduce", ranked(3, one_hop({{"count", 4 << 20}, {"quant", quant}, {"in_place", in_place}})));
            EXPECT_TRUE(all_right(again));
            EXPECT_EQ(again[0].at("peers"), 3);
        }
    }
}

TEST(OneHop, MemoryHeldForALatePeerIsBounded) {
    World world;
    world.join(4);
    const auto request = [](std::size_t rank, std::uint64_t bytes) {
        return one_hop({{"count", bytes / 4},
                        {"rank", rank},
                        {"in_place", true},
                        {"pattern", "constant:1"},
                        {"handle", std::to_string(bytes)}});
    };
    for (const std::uint64_t bytes : {4 * kMiB, 256 * kMiB}) {
        std::vector<std::uint64_t> before;
        for (std::size_t i = 0; i < 3; ++i) {
            ASSERT_TRUE(has_code(world[i].call("launch", request(i, bytes)), pcclSuccess));
            before.push_back(world[i].call("memory").at("now"));
        }
        std::this_thread::sleep_for(Millis(500));  // everything that may be sent without peer 3 has been sent by then; more must
                                                   // not be sent, which no event can show
        for (std::size_t i = 0; i < 3 && !kSanitized; ++i)
            EXPECT_LE(world[i].call("memory").at("now").get<std::uint64_t>(), before[i] + 48 * kMiB);
        ASSERT_TRUE(has_code(world[3].call("launch", request(3, bytes)), pcclSuccess));
        const auto answers = world.call_all("await", {{"handle", std::to_string(bytes)}}, Millis(60000));
        EXPECT_TRUE(all_same(answers, "hash"));
        EXPECT_EQ(answers[0].at("first"), 4.0);
    }
}

}  // namespace
}  // namespace pccl::itest
