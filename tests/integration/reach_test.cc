// Peers that cannot all reach one another. A peer that advertises an address without a listener can dial but cannot be dialled.
#include "harness/reduce.h"

#include <gmock/gmock.h>

namespace pccl::itest {
namespace {

using ::testing::HasSubstr;

/// Port 1 of loopback, where connections are refused at once.
const PeerOptions kUndiallable{.advertise = "127.0.0.1:1"};

/// Peers 0 and 2 have no link; all other pairs have.
struct FourWithAnUnreachablePair : World {
    FourWithAnUnreachablePair() {
        for (const auto &options : {kUndiallable, PeerOptions{}, kUndiallable, PeerOptions{}})
            spawn(options);
        join_all(4);
    }
};

TEST(Reach, UnreachablePeerDialsTheOthers) {
    World world;
    world.spawn(kUndiallable);
    world.spawn();
    world.spawn();
    world.join_all(3);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 100000}}))));
}

TEST(Reach, RingAvoidsAnUnreachablePair) {
    FourWithAnUnreachablePair world;
    for (const std::size_t count : {3u, 1000u, 2000000u}) {
        EXPECT_TRUE(all_right(world.call_each("reduce", ranked(4, {{"count", count}}))));
    }
    EXPECT_TRUE(all_have_code(world.call_all("optimize"), pcclSuccess));
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(4, {{"count", 100000}}))));
    EXPECT_EQ(world[0].call("attributes").at("world"), 4);
}

TEST(Reach, StateReachesAPeerWithoutALinkToItsHolder) {
    FourWithAnUnreachablePair world;
    const Json usual = {{"tensors", Json::array({{{"name", "w"}, {"count", 3000000}, {"seed", 1}}})}};
    const Json other = {{"tensors", Json::array({{{"name", "w"}, {"count", 3000000}, {"seed", 2}}})}};
    world.call_each("define", {usual, usual, other, usual});
    EXPECT_TRUE(all_same(world.call_all("sync"), "hashes"));
}

TEST(Reach, StateIsRelayedFromItsOnlyHolder) {
    FourWithAnUnreachablePair world;
    // All contents differ, that of peer 0 must win, and peer 2 has no link to peer 0.
    std::vector<Json> states, strategies(4, {{"strategy", "popular"}});
    for (int seed = 1; seed <= 4; ++seed) {
        states.push_back({{"tensors", Json::array({{{"name", "w"}, {"count", 3000000}, {"seed", seed}}})}});
    }
    strategies[0] = {{"strategy", "send"}};
    world.call_each("define", states);
    EXPECT_TRUE(all_same(world.call_each("sync", strategies), "hashes"));
}

TEST(Reach, NewcomerThatFitsNoRingIsRejectedWithAReason) {
    World world({.misuse_grace_ms = 500});
    world.spawn(kUndiallable);
    world.spawn();
    world.join_all(2);
    PeerProcess &third = world.spawn(kUndiallable);
    const Json refused = third.call("connect");
    EXPECT_TRUE(has_code(refused, pcclRankConnectionFailed));
    EXPECT_THAT(refused.at("error").get<std::string>(), HasSubstr("advertise"));
    world.erase(2);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST(Reach, AdvertisedNameIsResolved) {
    World world;
    world.spawn({.port = free_port(), .advertise = "localhost"});
    world.spawn();
    world.join_all(2);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

}  // namespace
}  // namespace pccl::itest
