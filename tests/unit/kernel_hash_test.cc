// Compares checksum with xxhash's XXH3 on every instruction set, and checks the chunks and byte order of the content hash.
#include "kernel/hash.h"

#include <numeric>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "unit/kernel_targets.h"

namespace pccl::kernel {
namespace {

std::vector<std::uint8_t> some_bytes(std::size_t count) {
    std::vector<std::uint8_t> bytes(count);
    std::mt19937_64 random(count);
    for (auto &b : bytes)
        b = static_cast<std::uint8_t>(random());
    return bytes;
}

TEST(KernelChecksum, IsXxh3ForEveryLengthAndAlignment) {
    const auto bytes = some_bytes(9000);
    on_every_target([&](std::int64_t) {
        for (std::size_t n = 0; n < 8900; n < 2200 ? ++n : n += 61) {
            const std::size_t offset = n % 67;
            ASSERT_EQ(checksum(bytes.data() + offset, n), XXH3_64bits(bytes.data() + offset, n)) << n;
        }
    });
}

TEST(KernelChecksum, IsXxh3ForBlockMultiplesAndLargeBuffers) {
    for (const std::size_t n : {std::size_t{1} << 18, (std::size_t{1} << 18) + 1, (std::size_t{3} << 20) - 1}) {
        const auto bytes = some_bytes(n);
        on_every_target([&](std::int64_t) { ASSERT_EQ(checksum(bytes.data(), n), XXH3_64bits(bytes.data(), n)) << n; });
    }
}

TEST(KernelChecksum, ChecksumInPiecesEqualsTheWhole) {
    const auto bytes = some_bytes(8 * Checksum::kGrain);
    on_every_target([&](std::int64_t) {
        for (const std::size_t first : {std::size_t{0}, Checksum::kGrain, 3 * Checksum::kGrain}) {
            for (const std::size_t second : {std::size_t{0}, Checksum::kGrain}) {
                for (const std::size_t last : {64u, 65u, 240u, 1023u, 1024u, 1025u, 2048u, 3000u}) {
                    Checksum sum;
                    sum.add(bytes.data(), first);
                    sum.add(bytes.data() + first, second);
                    const std::size_t so_far = first + second;
                    ASSERT_EQ(sum.finish(bytes.data() + so_far, last), XXH3_64bits(bytes.data(), so_far + last))
                        << so_far << "+" << last;
                }
            }
        }
    });
}

TEST(KernelContentHash, HasOneChecksumPerChunkAndNoneForNoData) {
    EXPECT_TRUE(chunk_checksums(nullptr, 0).empty());
    const auto bytes = some_bytes(2 * kHashChunkBytes + 5);
    EXPECT_EQ(chunk_checksums(bytes.data(), kHashChunkBytes).size(), 1u);
    const auto sums = chunk_checksums(bytes.data(), bytes.size());
    ASSERT_EQ(sums.size(), 3u);
    EXPECT_EQ(sums[1], XXH3_64bits(bytes.data() + kHashChunkBytes, kHashChunkBytes));
    EXPECT_EQ(sums[2], XXH3_64bits(bytes.data() + 2 * kHashChunkBytes, 5));
}

TEST(KernelContentHash, IsXxh3OfTheListAndChangesWithAnyBit) {
    auto bytes = some_bytes(kHashChunkBytes + 100);
    const auto sums = chunk_checksums(bytes.data(), bytes.size());
    const ContentHash before = content_hash(sums);
    const XXH128_hash_t want = XXH3_128bits(sums.data(), sums.size() * 8);
    for (int i = 0; i < 8; ++i) {
        EXPECT_EQ(before.bytes[static_cast<std::size_t>(i)], static_cast<std::uint8_t>(want.high64 >> (56 - 8 * i)));
        EXPECT_EQ(before.bytes[static_cast<std::size_t>(8 + i)], static_cast<std::uint8_t>(want.low64 >> (56 - 8 * i)));
    }
    bytes.back() ^= 1;
    EXPECT_NE(content_hash(chunk_checksums(bytes.data(), bytes.size())), before);
}

TEST(KernelContentHash, HashOfTheEmptyListIsXxh3OfNoBytes) {
    const ContentHash empty = content_hash({});
    EXPECT_EQ(empty.bytes[0], 0x99);  // 99aa06d3014798d86001c324468d497f
    EXPECT_EQ(empty.bytes[15], 0x7f);
}

}  // namespace
}  // namespace pccl::kernel
