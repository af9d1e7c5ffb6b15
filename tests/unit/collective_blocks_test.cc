// The owner of each part of a buffer.
#include "collective/blocks.h"

#include <gtest/gtest.h>

namespace pccl::collective {
namespace {

std::vector<PeerId> ids(std::initializer_list<std::uint64_t> values) {
    std::vector<PeerId> ring;
    for (const std::uint64_t value : values)
        ring.push_back(PeerId{value});
    return ring;
}

Span shard_of(std::size_t count, const std::vector<PeerId> &ring, std::uint64_t member) {
    const auto rank = static_cast<std::size_t>(std::ranges::find(ring, PeerId{member}) - ring.begin());
    return blocks_of(op::Collective::all_gather, count, ring, 512).of(rank);
}

TEST(Blocks, ShardsFollowTheOrderOfIdsAndCoverAllOnce) {
    for (const std::size_t count : {1, 255, 256, 257, 1023, 100003}) {
        for (std::uint64_t members = 1; members <= 9; ++members) {
            std::vector<PeerId> ring;  // ids of even positions first, so that the ring is not in the order of ids
            for (std::uint64_t id = 1; id <= members; ++id)
                ring.push_back(PeerId{id % 2 == 1 ? id : 100 - id});
            auto sorted = ring;
            std::ranges::sort(sorted);
            std::size_t next = 0;
            for (const PeerId member : sorted) {
                const Span shard = shard_of(count, ring, member.value);
                EXPECT_EQ(shard.begin, next);
                EXPECT_TRUE(shard.begin % kShardUnit == 0 || shard.begin == count);
                next += shard.count;
            }
            EXPECT_EQ(next, count);
        }
    }
}

TEST(Blocks, ShardStaysInPlaceWhenOnlyTheRingChanges) {
    for (const std::uint64_t member : {3, 5, 8, 20}) {
        const Span before = shard_of(100003, ids({3, 5, 8, 20}), member);
        EXPECT_EQ(shard_of(100003, ids({8, 3, 20, 5}), member), before);
        EXPECT_EQ(shard_of(100003, ids({20, 8, 5, 3}), member), before);
    }
}

TEST(Blocks, MembersBeyondTheUnitsHaveEmptyShards) {
    const auto ring = ids({1, 2, 3, 4, 5});
    std::size_t empty = 0;
    for (std::uint64_t member = 1; member <= 5; ++member)
        empty += shard_of(300, ring, member).count == 0;
    EXPECT_EQ(empty, 3u);
}

TEST(Blocks, AllReduceBlocksFollowTheOrderOfTheRing) {
    const auto blocks = blocks_of(op::Collective::all_reduce, 4096, ids({9, 2, 5}), 512);
    EXPECT_EQ(blocks.of(0).begin, 0u);
    EXPECT_EQ(blocks.of(1).begin, blocks.of(0).count);
    EXPECT_EQ(blocks.of(2).begin + blocks.of(2).count, 4096u);
}

}  // namespace
}  // namespace pccl::collective
