// Decompression returns the bytes that were compressed. It refuses any other input and writes nothing outside its output.
#include "codec/chunk.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <zstd.h>

namespace pccl::codec {
namespace {

using Bytes = std::vector<std::byte>;

/// Compressible bytes.
Bytes text(std::size_t bytes, std::uint64_t seed = 1) {
    std::mt19937_64 random(seed);
    Bytes out(bytes);
    for (auto &b : out)
        b = static_cast<std::byte>(random() % 5 + 'a');
    return out;
}

Bytes noise(std::size_t bytes) {
    std::mt19937_64 random(bytes);
    Bytes out(bytes);
    for (auto &b : out)
        b = static_cast<std::byte>(random());
    return out;
}

Bytes weights(std::size_t count) {
    std::mt19937_64 random(3);
    std::normal_distribution<float> normal(0, 0.02F);
    std::vector<float> values(count);
    for (float &v : values)
        v = normal(random);
    Bytes out(count * sizeof(float));
    std::memcpy(out.data(), values.data(), out.size());
    return out;
}

/// Empty if it does not fit in `room`.
Bytes compressed(const Bytes &in, unsigned planes, std::size_t room) {
    Bytes out(room + 1, std::byte{0xa5});
    const std::size_t length = compress(out.data(), room, in.data(), in.size(), planes);
    EXPECT_LE(length, room);
    EXPECT_EQ(out[room], std::byte{0xa5});
    out.resize(length);
    return out;
}
Bytes compressed(const Bytes &in, unsigned planes = 1) { return compressed(in, planes, in.size() + 600); }

/// Empty if the input was refused. The bytes after the output buffer must not change.
std::vector<Bytes> decompressed(const Bytes &in, std::size_t bytes, unsigned planes = 1) {
    Bytes out(bytes + 64, std::byte{0xa5});
    const bool right = decompress(out.data(), bytes, in.data(), in.size(), planes);
    for (std::size_t i = bytes; i < out.size(); ++i)
        EXPECT_EQ(out[i], std::byte{0xa5});
    out.resize(bytes);
    return right ? std::vector<Bytes>{out} : std::vector<Bytes>{};
}

TEST(CodecChunk, ComesBackForEveryLengthAndElementSize) {
    for (const unsigned planes : {1u, 2u, 4u, 8u}) {
        for (std::size_t n = 1; n < 4200; n < 257 ? ++n : n = n * 2 - 11) {
            for (const Bytes &in : {text(n), noise(n)}) {
                const Bytes packed = compressed(in, planes);
                ASSERT_FALSE(packed.empty()) << n;
                const auto out = decompressed(packed, n, planes);
                ASSERT_EQ(out.size(), 1u) << n << " bytes, elements of " << planes;
                ASSERT_EQ(out[0], in) << n << " bytes, elements of " << planes;
            }
        }
    }
}

TEST(CodecChunk, EmptyChunkIsEmpty) {
    EXPECT_EQ(compressed({}).size(), 0u);
    EXPECT_TRUE(decompressed({}, 0).empty());
    EXPECT_TRUE(decompressed({}, 10).empty());
}

TEST(CodecChunk, ChunkThatDoesNotShrinkIsRefused) {
    const Bytes in = noise(100000);
    EXPECT_TRUE(compressed(in, 1, in.size() - in.size() / 32).empty());
    EXPECT_TRUE(compressed(text(100000), 1, 100).empty());
}

TEST(CodecChunk, FloatingPointShrinksByItsPlanesOnly) {
    const Bytes in = weights(1 << 18);
    const double as_bytes = static_cast<double>(compressed(in, 1).size()) / static_cast<double>(in.size());
    const double in_planes = static_cast<double>(compressed(in, 4).size()) / static_cast<double>(in.size());
    EXPECT_LT(in_planes, 0.87);
    EXPECT_LT(in_planes, as_bytes - 0.05);
}

/// One block of zstd would hold a short chunk as a whole and code its exponents by the frequencies of the mantissas' noise.
TEST(CodecChunk, ShortFloatingPointChunkShrinksAsWell) {
    for (const std::size_t count : {std::size_t{1} << 12, std::size_t{1} << 14, std::size_t{1} << 16}) {
        const Bytes in = weights(count), packed = compressed(in, 4);
        EXPECT_LT(static_cast<double>(packed.size()) / static_cast<double>(in.size()), 0.86) << count;
        EXPECT_EQ(decompressed(packed, in.size(), 4).at(0), in);
    }
}

TEST(CodecChunk, TruncatedChunkIsRefused) {
    const Bytes in = text(5000), packed = compressed(in);
    for (std::size_t n = 0; n < packed.size(); ++n)
        ASSERT_TRUE(decompressed(Bytes(packed.begin(), packed.begin() + static_cast<std::ptrdiff_t>(n)), in.size()).empty()) << n;
}

TEST(CodecChunk, UnexpectedLengthIsRefused) {
    const Bytes in = text(5000), packed = compressed(in, 4);
    for (const std::size_t bytes : {0u, 1u, 4999u, 5001u, 1u << 20})
        EXPECT_TRUE(decompressed(packed, bytes, 4).empty()) << bytes;
}

TEST(CodecChunk, TrailingBytesAreRefused) {
    const Bytes in = text(5000);
    Bytes packed = compressed(in);
    Bytes twice = packed;
    twice.insert(twice.end(), packed.begin(), packed.end());
    EXPECT_TRUE(decompressed(twice, in.size()).empty());
    packed.push_back(std::byte{0});
    EXPECT_TRUE(decompressed(packed, in.size()).empty());
}

/// A frame of a few bytes that expands to many megabytes must not write beyond its output.
TEST(CodecChunk, DecompressionBombIsRefused) {
    const Bytes zeros(std::size_t{64} << 20);
    Bytes packed = compressed(zeros, 1, 1 << 20);
    ASSERT_LT(packed.size(), 10000u);
    EXPECT_TRUE(decompressed(packed, 4096).empty());
    // A frame with a false length: its header gives 4096 bytes, and its blocks contain more.
    Bytes small = compressed(Bytes(4096));
    ASSERT_EQ(ZSTD_getFrameContentSize(small.data(), small.size()), 4096u);
    const std::size_t header = 4 + 1 + 2;  // magic, descriptor, content size
    Bytes lying(small.begin(), small.begin() + header);
    const std::uint32_t block = 1u | (1u << 1) | (std::uint32_t{100000} << 3);  // the last block, one byte repeated
    for (int i = 0; i < 3; ++i)
        lying.push_back(static_cast<std::byte>(block >> (8 * i)));
    lying.push_back(std::byte{7});
    EXPECT_TRUE(decompressed(lying, 4096).empty());
}

TEST(CodecChunk, MissingLengthOrOtherFormatIsRefused) {
    const Bytes in = text(5000);
    Bytes out(10000);
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    out.resize(ZSTD_compress2(context, out.data(), out.size(), in.data(), in.size()));
    ZSTD_freeCCtx(context);
    EXPECT_TRUE(decompressed(out, in.size()).empty());
    for (const char *magic :
         {"\x27\xb5\x2f\xfd", "\x25\xb5\x2f\xfd", "\x50\x2a\x4d\x18", "\x1f\x8b\x08\x00"}) {  // old ones, skippable, gzip
        Bytes other = compressed(in);
        std::memcpy(other.data(), magic, 4);
        EXPECT_TRUE(decompressed(other, in.size()).empty());
    }
}

TEST(CodecChunk, UnknownElementSizeIsRefused) {
    const Bytes packed = compressed(text(300));
    for (const unsigned planes : {0u, 3u, 5u, 16u, 255u}) {
        EXPECT_TRUE(decompressed(packed, 300, planes).empty());
        EXPECT_TRUE(compressed(text(300), planes).empty());
    }
}

TEST(CodecChunk, DamagedChunkIsRefusedOrHasTheRightLength) {
    const Bytes in = text(3000), packed = compressed(in, 4);
    std::mt19937_64 random(9);
    for (int i = 0; i < 3000; ++i) {
        Bytes damaged = packed;
        damaged[random() % damaged.size()] ^= static_cast<std::byte>(1 + random() % 255);
        (void)decompressed(damaged, in.size(), 4);  // the helper checks the bytes around the output
    }
}

}  // namespace
}  // namespace pccl::codec
