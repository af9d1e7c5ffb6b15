// The arithmetic of the ring: every element is in exactly one chunk, and every chunk passes every member in the order of the
// ring.
#include "collective/ring_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

namespace pccl::collective {
namespace {

struct Shape {
    std::size_t count, element_bytes, members;
};

class RingPlanTest : public testing::TestWithParam<Shape> {
protected:
    RingPlan plan(std::size_t rank) const { return {GetParam().count, GetParam().element_bytes, GetParam().members, rank}; }
};

TEST_P(RingPlanTest, ChunksAlignToQuantizationBlocksAndCoverAllOnce) {
    const RingPlan p = plan(0);
    std::size_t next = 0;
    for (std::size_t b = 0; b < p.members(); ++b) {
        EXPECT_EQ(p.block(b).begin, next);
        for (std::size_t i = 0; i < p.chunks(b); ++i) {
            const Span chunk = p.chunk(b, i);
            EXPECT_EQ(chunk.begin, next);
            EXPECT_EQ(chunk.begin % op::kQuantBlock, 0u);
            EXPECT_GT(chunk.count, 0u);
            EXPECT_LE(chunk.count, p.max_chunk_elements());
            EXPECT_LE(chunk.count * GetParam().element_bytes,
                      std::max(RingPlan::kMaxChunk, op::kQuantBlock * GetParam().element_bytes));
            next += chunk.count;
        }
    }
    EXPECT_EQ(next, GetParam().count);
}

TEST_P(RingPlanTest, AllMembersMakeTheSameChunks) {
    const RingPlan first = plan(0);
    for (std::size_t rank = 1; rank < GetParam().members; ++rank) {
        const RingPlan other = plan(rank);
        for (std::size_t b = 0; b < first.members(); ++b) {
            ASSERT_EQ(other.chunks(b), first.chunks(b));
            EXPECT_EQ(other.block(b).begin, first.block(b).begin);
        }
    }
}

TEST_P(RingPlanTest, EachBlockPassesAllMembersTwice) {
    const std::size_t n = GetParam().members;
    if (n < 2) return;
    for (std::size_t b = 0; b < n; ++b) {
        std::size_t rank = n;  // the member at which the block starts
        for (std::size_t r = 0; r < n; ++r) {
            if (plan(r).first_block() == b) {
                EXPECT_EQ(rank, n) << "a block starts at one member only";
                rank = r;
            }
        }
        ASSERT_LT(rank, n);
        EXPECT_EQ(plan(rank).reduce_arrival(b), 0u) << "nothing arrives at the member where the block starts";
        std::vector<int> seen(n);
        ++seen[rank];
        for (std::size_t hop = 0; hop < n - 1; ++hop) {
            rank = plan(rank).successor();
            EXPECT_EQ(plan(rank).reduce_arrival(b), hop + 1);
            ++seen[rank];
        }
        EXPECT_EQ(seen, std::vector<int>(n, 1));
        EXPECT_EQ(plan(rank).own_block(), b) << "complete at its owner";

        EXPECT_EQ(plan(rank).gather_arrival(b), 0u);
        for (std::size_t hop = 0; hop < n - 1; ++hop) {
            EXPECT_TRUE(plan(rank).forwards_gather(b));
            rank = plan(rank).successor();
            EXPECT_EQ(plan(rank).gather_arrival(b), hop + 1);
        }
        EXPECT_FALSE(plan(rank).forwards_gather(b)) << "the last member does not forward the block";
        EXPECT_EQ(plan(rank).successor(), plan(b).rank());
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RingPlanTest,
                         testing::Values(Shape{1, 4, 2}, Shape{3, 4, 4}, Shape{255, 8, 3}, Shape{256, 1, 2}, Shape{257, 2, 2},
                                         Shape{1000, 4, 8}, Shape{100003, 4, 5}, Shape{1 << 20, 1, 7}, Shape{1 << 22, 8, 4},
                                         Shape{(1 << 22) + 1, 2, 9}, Shape{12345678, 4, 64}, Shape{1, 1, 1}),
                         [](const auto &shape) {
                             return std::to_string(shape.param.count) + "x" + std::to_string(shape.param.element_bytes) + "over" +
                                    std::to_string(shape.param.members);
                         });

TEST(RingPlan, AReduceScatterEndsWhereAnAllGatherBegins) {
    const std::vector<PeerId> ring{PeerId{4}, PeerId{1}, PeerId{3}};
    for (std::size_t rank = 0; rank < 3; ++rank) {
        const auto plan = [&](op::Collective what) {
            return RingPlan(what, blocks_of(what, 100003, ring, op::kQuantBlock), 4, rank);
        };
        const RingPlan scatter = plan(op::Collective::reduce_scatter), gather = plan(op::Collective::all_gather);
        EXPECT_EQ(scatter.first_block(), scatter.predecessor());
        EXPECT_EQ(gather.first_block(), rank);
        std::size_t all = 0;
        for (std::size_t b = 0; b < 3; ++b) {
            EXPECT_EQ(scatter.block(b), gather.block(b));
            EXPECT_FALSE(scatter.forwards_gather(b));
            EXPECT_EQ(gather.forwards_gather(b), gather.gather_arrival(b) < 2);
            all += gather.chunks(b);
        }
        EXPECT_EQ(scatter.finals_due(), scatter.chunks(rank));
        EXPECT_EQ(gather.finals_due(), all - gather.chunks(rank));
        EXPECT_EQ(plan(op::Collective::all_reduce).finals_due(), plan(op::Collective::all_reduce).chunks(0) +
                                                                     plan(op::Collective::all_reduce).chunks(1) +
                                                                     plan(op::Collective::all_reduce).chunks(2));
    }
}

/// The duration of a simulated all-reduce, in units of the time that a member needs to send one chunk. Each member sends one
/// chunk at a time in the order of its plan, and a chunk arrives `delay` units later.
std::size_t time_of(std::size_t members, std::size_t chunks, std::size_t delay, std::size_t pipeline_depth) {
    const std::size_t elements = members * chunks * RingPlan::kMaxChunk / 4;
    std::vector<RingPlan> plans;
    for (std::size_t rank = 0; rank < members; ++rank)
        plans.emplace_back(elements, 4, members, rank);
    struct Chunk {
        std::size_t step, index;  ///< step: of the reduce-scatter, and then of the all-gather
    };
    const std::size_t steps = 2 * (members - 1);
    std::vector<std::multimap<std::size_t, Chunk>> ready(members);
    std::multimap<std::size_t, std::pair<std::size_t, Chunk>> under_way;  // chunks in flight, by their arrival time
    const auto make_ready = [&](std::size_t rank, Chunk c) {
        const bool final = c.step >= members - 1;
        ready[rank].emplace(plans[rank].send_priority(final ? op::Phase::gather_from_owner : op::Phase::reduce_to_owner,
                                                      final ? c.step - (members - 1) : c.step, c.index, pipeline_depth),
                            c);
    };
    for (std::size_t rank = 0; rank < members; ++rank) {
        for (std::size_t i = 0; i < chunks; ++i)
            make_ready(rank, {0, i});
    }
    std::size_t now = 0;
    for (std::size_t left = members * steps * chunks; left > 0; ++now) {
        for (; !under_way.empty() && under_way.begin()->first <= now; under_way.erase(under_way.begin())) {
            const auto [rank, c] = under_way.begin()->second;
            --left;
            if (c.step + 1 < steps) make_ready(rank, {c.step + 1, c.index});
        }
        for (std::size_t rank = 0; rank < members; ++rank) {
            if (ready[rank].empty()) continue;
            under_way.emplace(now + delay, std::pair{(rank + 1) % members, ready[rank].begin()->second});
            ready[rank].erase(ready[rank].begin());
        }
    }
    return now;
}

TEST(RingPlan, StepsAsFarApartAsThePathKeepAllLinksBusy) {
    constexpr std::size_t kChunks = 200, kDelay = 50;
    for (const std::size_t members : {2u, 3u, 4u, 8u}) {
        const std::size_t least = 2 * (members - 1) * kChunks + kDelay;
        EXPECT_LE(time_of(members, kChunks, kDelay, 2 * kDelay), least + kDelay / 10) << members;
        if (members == 2) continue;  // with two members, the two steps are always one delay apart
        EXPECT_GE(time_of(members, kChunks, kDelay, 1), least + kDelay / 2) << members;
    }
}

TEST(RingPlan, HugeCountsDoNotOverflow) {
    const std::size_t count = (std::size_t{1} << 61) - 1;
    const RingPlan p(count, 1, 4096, 7);
    const Span last = p.block(4095);
    EXPECT_EQ(last.begin + last.count, count);
    EXPECT_EQ(p.block(0).begin, 0u);
}

}  // namespace
}  // namespace pccl::collective
