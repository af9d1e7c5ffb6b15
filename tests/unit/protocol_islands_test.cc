#include "protocol/islands.h"

#include <gtest/gtest.h>

namespace pccl::protocol {
namespace {

wire::Hello hello(std::uint32_t group, std::uint64_t island, std::uint32_t peers) {
    wire::Hello hello;
    hello.group = GroupId{group};
    hello.island = island;
    hello.island_peers = peers;
    return hello;
}

class IslandsTest : public testing::Test {
protected:
    IslandsTest() {
        islands_.add(PeerId{1}, GroupId{0}, 7, 2);
        islands_.add(PeerId{2}, GroupId{0}, 0, 0);
    }
    Islands islands_;
};

TEST_F(IslandsTest, PeerOnItsOwnIsWhole) {
    EXPECT_TRUE(islands_.is_whole(PeerId{2}));
    EXPECT_EQ(islands_.peers_with(PeerId{2}), std::vector{PeerId{2}});
    EXPECT_FALSE(islands_.in_run(PeerId{2}));
}

TEST_F(IslandsTest, IslandIsWholeOnceAllItsPeersCame) {
    EXPECT_FALSE(islands_.is_whole(PeerId{1}));
    islands_.add(PeerId{3}, GroupId{1}, 7, 2);
    EXPECT_TRUE(islands_.is_whole(PeerId{1}));
    EXPECT_EQ(islands_.peers_with(PeerId{3}), (std::vector{PeerId{1}, PeerId{3}}));
    islands_.check_invariants();
}

TEST_F(IslandsTest, ImpossibleIslandIsRefused) {
    EXPECT_EQ(islands_.reason_to_refuse(hello(1, 7, 2)), "");
    EXPECT_EQ(islands_.reason_to_refuse(hello(0, 0, 0)), "");
    EXPECT_NE(islands_.reason_to_refuse(hello(0, 7, 2)), "") << "its group is taken";
    EXPECT_NE(islands_.reason_to_refuse(hello(1, 7, 3)), "") << "the number of peers differs";
    EXPECT_NE(islands_.reason_to_refuse(hello(1, 8, 0)), "");
}

TEST_F(IslandsTest, NewcomersAreBlockedUntilTheWholeIslandIsReady) {
    islands_.add(PeerId{3}, GroupId{1}, 7, 2);
    EXPECT_EQ(islands_.blocked({PeerId{1}}), (std::set{PeerId{1}, PeerId{3}}));
    EXPECT_TRUE(islands_.blocked({PeerId{1}, PeerId{3}}).empty());
}

TEST_F(IslandsTest, NewcomersWithATakenNumberAreBlocked) {
    islands_.add(PeerId{3}, GroupId{1}, 7, 2);
    islands_.admit(PeerId{1});
    islands_.admit(PeerId{3});
    islands_.check_invariants();
    islands_.add(PeerId{4}, GroupId{0}, 7, 1);
    EXPECT_TRUE(islands_.in_run(PeerId{4}));
    EXPECT_EQ(islands_.peers_with(PeerId{4}), std::vector{PeerId{4}});
    EXPECT_EQ(islands_.blocked({PeerId{4}}), std::set{PeerId{4}});
    islands_.remove(PeerId{1});
    islands_.remove(PeerId{3});
    EXPECT_TRUE(islands_.blocked({PeerId{4}}).empty());
}

TEST_F(IslandsTest, OtherPeersDoNotGetTheCodeOfAMistake) {
    EXPECT_EQ(island_removal_code(true, pcclInvalidUsage), pcclMasterConnectionFailed);
    EXPECT_EQ(island_removal_code(true, pcclSuccess), pcclSuccess);
    EXPECT_EQ(island_removal_code(false, pcclInvalidUsage), pcclInvalidUsage);
}

}  // namespace
}  // namespace pccl::protocol
