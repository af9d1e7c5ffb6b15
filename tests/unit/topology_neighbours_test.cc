// Graphs of neighbours are connected and give every member enough neighbours. A member that joins or leaves changes few edges,
// and the same seed gives the same graph.
#include "topology/neighbours.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace pccl::topology {
namespace {

using Edges = std::set<Graph::Edge>;

std::set<PeerId> first(std::size_t n) {
    std::set<PeerId> ids;
    for (std::size_t i = 1; i <= n; ++i)
        ids.insert(PeerId{i});
    return ids;
}

Edges edges_of(const Graph &graph) {
    Edges edges;
    for (const PeerId id : graph.members()) {
        for (const PeerId other : graph.neighbours(id))
            edges.insert(std::minmax(id, other));
    }
    return edges;
}

std::size_t changed(const Edges &before, const Edges &after) {
    std::vector<Graph::Edge> difference;
    std::ranges::set_symmetric_difference(before, after, std::back_inserter(difference));
    return difference.size();
}

std::size_t degree(const Graph &graph, PeerId id) { return graph.neighbours(id).size(); }

/// Checks the guarantees of any graph over these members.
void check(const Graph &graph, const std::set<PeerId> &members) {
    const auto listed = graph.members();
    ASSERT_TRUE(std::ranges::equal(listed, members));
    const std::size_t n = members.size();
    const auto kind = graph.spec().kind;
    std::size_t wanted = std::min<std::size_t>(graph.spec().degree, n - 1);
    if (kind == GraphKind::ring) wanted = std::min<std::size_t>(2, n - 1);
    if (kind == GraphKind::exponential) {
        wanted = 0;
        for (std::size_t step = 1; step < n; step *= 2)
            ++wanted;
    }
    for (const PeerId id : members) {
        const auto neighbours = graph.neighbours(id);
        ASSERT_GE(neighbours.size(), wanted) << to_string(id);
        ASSERT_EQ(std::set<PeerId>(neighbours.begin(), neighbours.end()).size(), neighbours.size())
            << "a neighbour is listed twice";
        for (const PeerId other : neighbours) {
            ASSERT_NE(other, id);
            ASSERT_TRUE(members.contains(other));
            if (kind == GraphKind::exponential) continue;
            const auto back = graph.neighbours(other);
            ASSERT_NE(std::ranges::find(back, id), back.end()) << "not mutual";
        }
    }
    std::set<PeerId> reached{*members.begin()};
    std::vector<PeerId> todo{*members.begin()};
    while (!todo.empty()) {
        const PeerId id = todo.back();
        todo.pop_back();
        for (const PeerId other : graph.neighbours(id)) {
            if (reached.insert(other).second) todo.push_back(other);
        }
    }
    ASSERT_EQ(reached.size(), n) << "not connected";
}

constexpr GraphKind kAll[] = {GraphKind::ring, GraphKind::random_regular, GraphKind::exponential, GraphKind::preferential};

TEST(Neighbours, MembersAreConnectedWithEnoughNeighbours) {
    for (const GraphKind kind : kAll) {
        for (std::uint32_t degree = 2; degree <= 6; ++degree) {
            for (std::size_t n = 1; n <= 40; ++n) {
                SCOPED_TRACE(::testing::Message()
                             << "kind " << static_cast<int>(kind) << ", degree " << degree << ", members " << n);
                Graph graph({kind, degree, n});
                ASSERT_TRUE(graph.update(first(n)));
                check(graph, first(n));
                ASSERT_FALSE(graph.update(first(n)));
                if (HasFatalFailure()) return;
            }
        }
    }
}

TEST(Neighbours, ARandomRegularGraphIsRegular) {
    for (const std::size_t n : {10, 11, 64, 257}) {
        for (const std::uint32_t k : {2U, 3U, 4U, 7U}) {
            SCOPED_TRACE(::testing::Message() << "members " << n << ", degree " << k);
            Graph graph({GraphKind::random_regular, k, 5});
            graph.update(first(n));
            std::size_t more = 0;
            for (const PeerId id : first(n))
                more += degree(graph, id) - k;
            EXPECT_LE(more, k * n % 2 + (k == 2 ? 2 : 0));
        }
    }
}

TEST(Neighbours, AnExponentialGraphHasPhases) {
    Graph graph({GraphKind::exponential, 0, 0});
    graph.update(first(10));
    EXPECT_EQ(graph.neighbours(PeerId{9}), (std::vector{PeerId{10}, PeerId{1}, PeerId{3}, PeerId{7}}));
}

TEST(Neighbours, APreferentialGraphHasHubs) {
    Graph graph({GraphKind::preferential, 2, 3});
    graph.update(first(300));
    std::vector<std::size_t> degrees;
    for (const PeerId id : first(300))
        degrees.push_back(degree(graph, id));
    std::ranges::sort(degrees);
    EXPECT_GE(degrees.back(), 20U);
    EXPECT_EQ(degrees[150], 2U + (degrees[150] > 2));
    EXPECT_LE(edges_of(graph).size(), 2 * 300U);
}

TEST(Neighbours, JoiningAndLeavingChangeFewEdges) {
    for (unsigned seed = 0; seed < 20; ++seed) {
        for (const GraphKind kind : {GraphKind::ring, GraphKind::random_regular, GraphKind::preferential}) {
            SCOPED_TRACE(::testing::Message() << "seed " << seed << ", kind " << static_cast<int>(kind));
            std::mt19937 random(seed);
            const std::uint32_t k = 2 + random() % 5;
            Graph graph({kind, k, seed});
            std::set<PeerId> members = first(5 + random() % 60);
            std::uint64_t next = members.size() + 1;
            graph.update(members);
            for (int step = 0; step < 40; ++step) {
                const Edges before = edges_of(graph);
                std::size_t lost = 0, events = 0;
                for (unsigned i = random() % 3; i > 0 && members.size() > 2; --i, ++events) {
                    const auto victim = std::next(members.begin(), static_cast<std::ptrdiff_t>(random() % members.size()));
                    lost += degree(graph, *victim);
                    members.erase(victim);
                }
                for (unsigned i = random() % 3; i > 0; --i, ++events)
                    members.insert(PeerId{next++});
                ASSERT_EQ(graph.update(members), events > 0);
                check(graph, members);
                if (HasFatalFailure()) return;
                // The edges of lost members, the same number to replace them at their neighbours, the edges of newcomers, and
                // the edges that connect separated parts.
                const std::size_t bound = 2 * lost + 3 * (k + 2) * events + lost;
                ASSERT_LE(changed(before, edges_of(graph)), bound)
                    << members.size() << " members, " << lost << " edges lost, " << events << " events";
            }
            if (kind != GraphKind::random_regular) continue;
            std::size_t sum = 0;
            for (const PeerId id : members)
                sum += degree(graph, id);
            EXPECT_LE(sum, members.size() * std::min<std::size_t>(k, members.size() - 1) + members.size() / 2 + 3)
                << "the graph became denser";
        }
    }
}

TEST(Neighbours, GraphRecoversFromTheLossOfAllHubs) {
    for (unsigned seed = 0; seed < 10; ++seed) {
        SCOPED_TRACE(::testing::Message() << "seed " << seed);
        Graph graph({GraphKind::preferential, 2, seed});
        auto members = first(100);
        graph.update(members);
        std::vector<PeerId> by_degree(members.begin(), members.end());
        std::ranges::stable_sort(by_degree, std::ranges::greater(), [&](PeerId id) { return degree(graph, id); });
        for (std::size_t i = 0; i < 10; ++i)
            members.erase(by_degree[i]);
        graph.update(members);
        check(graph, members);
        if (HasFatalFailure()) return;
    }
}

TEST(Neighbours, SameSeedOrRecordGivesTheSameGraph) {
    for (const GraphKind kind : kAll) {
        const GraphSpec spec{kind, 3, 9};
        Graph one(spec), other(spec);
        one.update(first(20));
        other.update(first(20));
        Graph again(spec, one.changes(), one.members(), one.edges());
        auto members = first(24);
        members.erase(PeerId{3});
        for (Graph *graph : {&one, &other, &again})
            graph->update(members);
        EXPECT_EQ(edges_of(one), edges_of(other));
        EXPECT_EQ(edges_of(one), edges_of(again));
        if (kind != GraphKind::random_regular && kind != GraphKind::preferential) continue;
        Graph another({kind, 3, 10});
        another.update(first(20));
        another.update(members);
        EXPECT_NE(edges_of(one), edges_of(another));
    }
}

TEST(Neighbours, AllMembersCanLeave) {
    Graph graph({GraphKind::random_regular, 3, 1});
    graph.update(first(8));
    EXPECT_TRUE(graph.update({}));
    EXPECT_TRUE(graph.update(first(3)));
    check(graph, first(3));
}

}  // namespace
}  // namespace pccl::topology
