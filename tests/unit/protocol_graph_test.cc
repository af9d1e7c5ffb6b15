// The graph of neighbours at the master: which request decides, and what members receive when others join and leave.
#include "unit/protocol_master.h"

namespace pccl::protocol {
namespace {

class MasterGraphTest : public MasterTest {};

TEST_F(MasterGraphTest, FirstRequestedGraphHoldsForAllMembers) {
    const auto all = members(5);
    for (const ConnId conn : all)
        send(conn, wire::VoteUpdate{2});
    const wire::GraphSpec graph{wire::GraphKind::random_regular, 2, 7};
    send(all[3], wire::SetGraph{1, graph});
    for (const ConnId conn : all) {
        const auto neighbours = received<wire::Neighbours>(conn);
        ASSERT_EQ(neighbours.size(), 1u);
        EXPECT_EQ(neighbours[0].call, conn == all[3] ? 1u : 0u);
        EXPECT_EQ(neighbours[0].graph, graph);
        EXPECT_EQ(neighbours[0].epoch, 1u);
        EXPECT_EQ(neighbours[0].neighbours.size(), 2u);
    }
    send(all[0], wire::SetGraph{9, graph});
    EXPECT_EQ(received<wire::Neighbours>(all[0]).back().call, 9u);
    EXPECT_EQ(received<wire::Neighbours>(all[0]).back().code, pcclSuccess);
    EXPECT_EQ(received<wire::Neighbours>(all[1]).size(), 1u) << "nothing changed";
    send(all[1], wire::SetGraph{1, {wire::GraphKind::ring, 0, 0}});
    EXPECT_EQ(received<wire::Neighbours>(all[1]).back().code, pcclInvalidUsage);
    EXPECT_NE(received<wire::Neighbours>(all[1]).back().why.find("kind 2, degree 2, seed 7"), std::string::npos);
    send(all[1], wire::SetGraph{2, {}});
    send(all[1], wire::SetGraph{3, {wire::GraphKind::ring, 0, 0}});
    EXPECT_EQ(received<wire::Neighbours>(all[4]).back().graph.kind, wire::GraphKind::ring);
    EXPECT_EQ(received<wire::Neighbours>(all[4]).back().epoch, 3u);
}

TEST_F(MasterGraphTest, ImpossibleGraphAndRequestOfANewcomerAreRefused) {
    const auto all = members(2);
    for (const ConnId conn : all)
        send(conn, wire::VoteUpdate{2});
    for (const wire::GraphSpec &graph :
         {wire::GraphSpec{wire::GraphKind::random_regular, 1, 0}, wire::GraphSpec{wire::GraphKind::preferential, 65, 0},
          wire::GraphSpec{wire::GraphKind::ring, 2, 0}}) {
        send(all[0], wire::SetGraph{1, graph});
        EXPECT_EQ(received<wire::Neighbours>(all[0]).back().code, pcclInvalidArgument);
    }
    const ConnId newcomer = join();
    send(newcomer, wire::SetGraph{1, {wire::GraphKind::ring, 0, 0}});
    EXPECT_TRUE(closed_.contains(newcomer));
}

TEST_F(MasterGraphTest, GraphIsRepairedAfterTheView) {
    auto all = members(6);
    for (const ConnId conn : all)
        send(conn, wire::VoteUpdate{2});
    send(all[0], wire::SetGraph{1, {wire::GraphKind::random_regular, 3, 7}});
    lose(all[5]);
    all.pop_back();
    EXPECT_EQ(received<wire::Neighbours>(all[0]).size(), 1u) << "it is sent after the view";
    thaw(all);
    for (const ConnId conn : all) {
        ASSERT_EQ(received<wire::Neighbours>(conn).size(), 2u);
        EXPECT_TRUE(std::holds_alternative<wire::Neighbours>(inbox_[conn].back()));
        const auto now = received<wire::Neighbours>(conn).back().neighbours;
        EXPECT_GE(now.size(), 3u);
        EXPECT_EQ(std::ranges::find(now, PeerId{6}), now.end());
    }
    const ConnId newcomer = join();
    link_all();
    for (const ConnId conn : all)
        send(conn, wire::VoteUpdate{3});
    ASSERT_EQ(received<wire::Neighbours>(newcomer).size(), 1u);
    EXPECT_GE(received<wire::Neighbours>(newcomer)[0].neighbours.size(), 3u);
    EXPECT_EQ(received<wire::Neighbours>(newcomer)[0].epoch, 3u);
}

}  // namespace
}  // namespace pccl::protocol
