// The repair after a loss makes every element of every member final exactly once and transfers no element unnecessarily.
#include "collective/repair_plan.h"
#include "wire/repair.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace pccl::collective {
namespace {

using op::FinalRanges;

/// For each element the number of contributors, 0 if the element is not final.
using Elements = std::vector<std::uint32_t>;

FinalRanges ranges_of(const Elements &elements) {
    FinalRanges ranges;
    for (std::size_t i = 0; i < elements.size(); ++i) {
        if (elements[i] > 0) ranges.push_back({i, 1, elements[i]});
    }
    return joined(ranges);
}

/// Random final elements of each member after some losses. Members that hold the same element hold the same value.
std::vector<Elements> draw(std::mt19937 &random, std::size_t count, std::size_t members) {
    std::vector<Elements> held(members, Elements(count));
    for (std::size_t begin = 0; begin < count;) {
        const std::size_t end = std::min<std::size_t>(count, begin + 1 + random() % 40);
        const std::uint32_t took_part = static_cast<std::uint32_t>(members + 1 + random() % 2);
        const unsigned how = random() % 4;  // 0: final at no member, 1: at all, 2 and 3: at some
        for (auto &elements : held) {
            if (how == 0 || (how > 1 && random() % 2)) continue;
            std::fill(elements.begin() + static_cast<std::ptrdiff_t>(begin), elements.begin() + static_cast<std::ptrdiff_t>(end),
                      took_part);
        }
        begin = end;
    }
    return held;
}

class Repairs : public testing::TestWithParam<unsigned> {
protected:
    Repairs() {
        std::mt19937 random(GetParam());
        members = 1 + random() % 6;
        count = 1 + random() % 3000;
        most = 1 + random() % 300;
        held = draw(random, count, members);
        std::vector<FinalRanges> lists;
        for (const auto &elements : held)
            lists.push_back(ranges_of(elements));
        for (const auto &list : lists)
            EXPECT_TRUE(wire::well_formed(list));
        plan = plan_repair(count, lists, most);
    }
    std::size_t members, count, most;
    std::vector<Elements> held;
    RepairPlan plan;
};

TEST_P(Repairs, MakeEveryElementOfEveryMemberFinalExactlyOnce) {
    std::vector<std::vector<int>> times(members, std::vector<int>(count));
    for (std::size_t rank = 0; rank < members; ++rank) {
        for (std::size_t i = 0; i < count; ++i)
            times[rank][i] += held[rank][i] > 0;
    }
    std::size_t moved = 0, missing = 0;
    for (const auto &piece : plan.missing) {
        EXPECT_GT(piece.span.count, 0u);
        EXPECT_LE(piece.span.count, most);
        EXPECT_TRUE(std::ranges::count(piece.held, true) > 0);
        for (std::size_t i = piece.span.begin; i < piece.span.begin + piece.span.count; ++i) {
            for (std::size_t rank = 0; rank < members; ++rank) {
                EXPECT_EQ(piece.held[rank], held[rank][i] > 0);
                if (piece.held[rank]) {
                    EXPECT_EQ(piece.members, held[rank][i]);
                } else {
                    ++times[rank][i], ++moved;
                }
            }
        }
    }
    for (const Span &span : plan.open) {
        for (std::size_t i = span.begin; i < span.begin + span.count; ++i) {
            for (auto &mine : times)
                ++mine[i];
        }
    }
    for (std::size_t rank = 0; rank < members; ++rank)
        EXPECT_EQ(times[rank], std::vector<int>(count, 1)) << "rank " << rank;
    for (std::size_t i = 0; i < count; ++i) {
        const auto holders = static_cast<std::size_t>(std::ranges::count_if(held, [&](const auto &mine) { return mine[i] > 0; }));
        if (holders > 0) missing += members - holders;
    }
    EXPECT_EQ(moved, missing) << "a final element is sent once to each member that lacks it";
}

TEST_P(Repairs, CutOpenRangesIntoEqualChunksAtEveryMember) {
    for (std::size_t rank = 0; rank < members; ++rank) {
        const RingPlan ring(plan.open, 4, members, rank);
        std::vector<int> times(count);
        std::size_t next = 0, most_of_a_block = 0, open = 0;
        for (std::size_t b = 0; b < members; ++b) {
            std::size_t block = 0;
            for (std::size_t i = 0; i < ring.chunks(b); ++i) {
                const Span chunk = ring.chunk(b, i);
                EXPECT_GE(chunk.begin, next);
                EXPECT_GT(chunk.count, 0u);
                EXPECT_LE(chunk.count, ring.max_chunk_elements());
                next = chunk.begin + chunk.count;
                block += chunk.count;
                for (std::size_t e = chunk.begin; e < next; ++e)
                    ++times[e];
            }
            most_of_a_block = std::max(most_of_a_block, block);
            open += block;
        }
        EXPECT_LE(most_of_a_block, open / members + ring.max_chunk_elements() + 1) << "no member sends more than its share";
        for (std::size_t e = 0; e < count; ++e) {
            const bool is_open =
                std::ranges::any_of(plan.open, [&](const Span &s) { return s.begin <= e && e < s.begin + s.count; });
            EXPECT_EQ(times[e], is_open ? 1 : 0);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Repairs, testing::Range(1u, 200u));

TEST(RepairPlan, WhollyOpenBufferIsCutAsWithoutALoss) {
    const std::size_t count = 100000;
    const RingPlan whole(count, 4, 3, 1), open(std::vector<Span>{{0, count}}, 4, 3, 1);
    EXPECT_EQ(open.max_chunk_elements(), whole.max_chunk_elements());
    std::size_t chunks = 0;
    for (std::size_t b = 0; b < 3; ++b)
        chunks += open.chunks(b);
    EXPECT_EQ(chunks, (count + open.max_chunk_elements() - 1) / open.max_chunk_elements());
}

TEST(RepairPlan, NoOpenRangeGivesNoChunk) {
    const RingPlan plan(std::vector<Span>{}, 4, 3, 1);
    for (std::size_t b = 0; b < 3; ++b)
        EXPECT_EQ(plan.chunks(b), 0u);
}

TEST(RepairPlan, RangesBeyondTheBufferAreTruncated) {
    const auto plan = plan_repair(100, {{{90, 1000, 3}}, {}}, 64);
    ASSERT_EQ(plan.missing.size(), 1u);
    EXPECT_EQ(plan.missing[0].span.count, 10u);
    ASSERT_EQ(plan.open.size(), 1u);
    EXPECT_EQ(plan.open[0].count, 90u);
}

TEST(FinalRanges, AdjacentRangesWithEqualCountsAreJoined) {
    EXPECT_EQ(joined({{20, 10, 3}, {0, 10, 4}, {10, 10, 4}, {30, 5, 4}}), (FinalRanges{{0, 20, 4}, {20, 10, 3}, {30, 5, 4}}));
    EXPECT_EQ(joined({{0, 10, 4}, {5, 10, 3}, {6, 2, 2}}), (FinalRanges{{0, 10, 4}, {10, 5, 3}}));
    EXPECT_FALSE(wire::well_formed({{0, 10, 4}, {9, 1, 4}}));
    EXPECT_FALSE(wire::well_formed({{0, 0, 4}}));
    EXPECT_FALSE(wire::well_formed({{1, UINT64_MAX, 4}}));
    EXPECT_FALSE(wire::well_formed({{0, 1, 0}}));
    EXPECT_TRUE(wire::well_formed({{0, 10, 4}, {10, 1, 4}}));
}

TEST(FinalRanges, ReportTheFewestContributorsAndTheirElements) {
    const auto found = participation({{0, 20, 4}, {20, 10, 3}, {30, 5, 4}, {40, 7, 3}});
    EXPECT_EQ(found.fewest, 3u);
    EXPECT_EQ(found.elements, 17u);
}

}  // namespace
}  // namespace pccl::collective
