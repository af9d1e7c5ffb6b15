// The arithmetic of the direct exchange: every element is in exactly one piece, and there are as many pieces as connections
// can carry at the same time.
#include "collective/direct_plan.h"

#include <gtest/gtest.h>

namespace pccl::collective {
namespace {

TEST(DirectPlan, PiecesCoverEveryElementOnce) {
    for (const bool long_path : {false, true})
        for (const std::size_t bytes : {1, 2, 4, 8})
            for (const std::size_t count : {1, 511, 4096, 4097, 10007, 131072}) {
                const DirectPlan plan(count, bytes, long_path);
                std::size_t next = 0;
                for (std::size_t i = 0; i < plan.pieces(); ++i) {
                    const Span piece = plan.piece(i);
                    ASSERT_EQ(piece.begin, next);
                    ASSERT_GT(piece.count, 0u);
                    ASSERT_LE(piece.count, plan.max_piece_elements());
                    next += piece.count;
                }
                ASSERT_EQ(next, count);
            }
}

TEST(DirectPlan, ContributionIsSplitOverLongPathsOnly) {
    EXPECT_EQ(DirectPlan(262144, 4, false).pieces(), 1u);
    EXPECT_EQ(DirectPlan(1024, 4, true).pieces(), 1u) << "a few packets";
    EXPECT_EQ(DirectPlan(1025, 4, true).pieces(), 2u);
    EXPECT_EQ(DirectPlan(8192, 4, true).pieces(), 8u);
    EXPECT_EQ(DirectPlan(65536, 4, true).pieces(), 16u);
    EXPECT_EQ(DirectPlan(262144, 4, true).pieces(), 16u);
    EXPECT_EQ(DirectPlan(524288, 4, true).pieces(), 32u) << "no piece is larger than a chunk of a ring there";
}

}  // namespace
}  // namespace pccl::collective
