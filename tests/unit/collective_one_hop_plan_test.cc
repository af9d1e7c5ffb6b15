// The arithmetic of the one-hop all-reduce: every element is in exactly one chunk of one owner, and the buffered bytes are
// bounded.
#include "collective/one_hop_plan.h"

#include <gtest/gtest.h>

#include <set>

namespace pccl::collective {
namespace {

TEST(OneHopPlan, ChunksAlignToQuantizationBlocksAndCoverAllOnce) {
    for (const std::size_t members : {2, 3, 8, 64, 256})
        for (const std::size_t bytes : {1, 2, 4, 8})
            for (const std::size_t count : {1, 511, 512, 513, 10007, 3 << 20}) {
                const OneHopPlan plan(count, bytes, members);
                std::size_t next = 0;
                for (std::size_t b = 0; b < members; ++b) {
                    EXPECT_EQ(plan.block(b).begin, next);
                    for (std::size_t i = 0; i < plan.chunks(b); ++i) {
                        const Span chunk = plan.chunk(b, i);
                        ASSERT_EQ(chunk.begin, next);
                        ASSERT_EQ(chunk.begin % OneHopPlan::kUnit, 0u);
                        ASSERT_GT(chunk.count, 0u);
                        ASSERT_LE(chunk.count, plan.max_chunk_elements());
                        next += chunk.count;
                    }
                }
                ASSERT_EQ(next, count);
            }
}

TEST(OneHopPlan, AWindowOfChunksFromAllIsWithinTheBound) {
    for (std::size_t members = 2; members <= 256; ++members)
        for (const std::size_t bytes : {1, 2, 4, 8})
            for (const std::size_t count : {std::size_t{1}, std::size_t{100000}, std::size_t{1} << 30}) {
                const OneHopPlan plan(count, bytes, members);
                const std::size_t chunk = plan.max_chunk_elements() * bytes;
                ASSERT_GE(plan.window(chunk), OneHopPlan::kWindow);
                ASSERT_LE(plan.window(chunk) * members * chunk, OneHopPlan::kMaxHeld);
            }
}

TEST(OneHopPlan, CombinesInRingOrderWithTheOwnerLast) {
    const OneHopPlan plan(10000, 4, 5);
    for (std::size_t b = 0; b < 5; ++b) {
        std::set<std::size_t> seen;
        for (std::size_t i = 0; i < 5; ++i)
            seen.insert(plan.contributor(b, i));
        EXPECT_EQ(seen.size(), 5u);
        EXPECT_EQ(plan.contributor(b, 0), (b + 1) % 5);
        EXPECT_EQ(plan.contributor(b, 4), b);
    }
}

}  // namespace
}  // namespace pccl::collective
