// XXH3-64 with a loop over long inputs that uses the machine's widest vectors. xxhash.h alone would fix the width at compile
// time.
//
// The loop follows the XXH3 specification (64-byte stripes in blocks of 16, scrambled after each block). Tests compare it with
// xxhash.
#include "kernel/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/hash.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef PCCL_KERNEL_HASH_ONCE_
#define PCCL_KERNEL_HASH_ONCE_

#include <algorithm>
#include <bit>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kernel/hash.h"

static_assert(std::endian::native == std::endian::little, "the wire's words are used as they lie in memory");

namespace pccl::kernel {

inline constexpr std::size_t kStripeBytes = 64;
inline constexpr std::size_t kSecretBytes = 192;
inline constexpr std::size_t kStripesPerBlock = (kSecretBytes - kStripeBytes) / 8;
inline constexpr std::size_t kBlockBytes = kStripesPerBlock * kStripeBytes;
inline constexpr std::size_t kShortBytes = 240;  ///< up to this length XXH3 is another function, without the loop

}  // namespace pccl::kernel

#endif

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

struct Accumulators {
    std::uint64_t at[8];
};

std::uint64_t load_word(const std::uint8_t *from) {
    std::uint64_t word = 0;
    std::memcpy(&word, from, sizeof word);
    return word;
}

Accumulators load(const std::uint64_t *words) {
    Accumulators acc;
    std::copy_n(words, 8, acc.at);
    return acc;
}

void store(const Accumulators &acc, std::uint64_t *words) { std::copy_n(acc.at, 8, words); }

void accumulate(Accumulators &acc, const std::uint8_t *stripe, const std::uint8_t *secret) {
    for (std::size_t i = 0; i < 8; ++i) {
        const std::uint64_t data = load_word(stripe + 8 * i), key = data ^ load_word(secret + 8 * i);
        acc.at[i ^ 1] += data;
        acc.at[i] += (key & 0xFFFFFFFFu) * (key >> 32);
    }
}

void scramble(Accumulators &acc, const std::uint8_t *secret) {
    for (std::size_t i = 0; i < 8; ++i)
        acc.at[i] = (acc.at[i] ^ (acc.at[i] >> 47) ^ load_word(secret + 8 * i)) * XXH_PRIME32_1;
}

#else

using Words = hn::CappedTag<std::uint64_t, 8>;
constexpr std::size_t kWordLanes = hn::MaxLanes(Words());
constexpr std::size_t kVectors = 8 / kWordLanes;

/// The eight accumulators, in registers.
struct Accumulators {
    hn::Vec<Words> at[kVectors];
};

HWY_INLINE hn::Vec<Words> load_words(const std::uint8_t *from, std::size_t vector) {
    const hn::Repartition<std::uint8_t, Words> bytes;
    return hn::BitCast(Words(), hn::LoadU(bytes, from + vector * kWordLanes * 8));
}

HWY_INLINE void accumulate(Accumulators &acc, const std::uint8_t *stripe, const std::uint8_t *secret) {
    const hn::Repartition<std::uint32_t, Words> halves;
    for (std::size_t v = 0; v < kVectors; ++v) {
        const auto data = load_words(stripe, v);
        const auto key = hn::BitCast(halves, hn::Xor(data, load_words(secret, v)));
        const auto product = hn::MulEven(key, hn::Shuffle2301(key));
        acc.at[v] = hn::Add(acc.at[v], hn::Add(product, hn::Shuffle01(data)));
    }
}

HWY_INLINE void scramble(Accumulators &acc, const std::uint8_t *secret) {
    const hn::Repartition<std::uint32_t, Words> halves;
    const auto prime = hn::Set(halves, 0x9E3779B1u);
    for (std::size_t v = 0; v < kVectors; ++v) {
        const auto mixed = hn::Xor(hn::Xor(acc.at[v], hn::ShiftRight<47>(acc.at[v])), load_words(secret, v));
        const auto low = hn::MulEven(hn::BitCast(halves, mixed), prime);
        const auto high = hn::MulEven(hn::BitCast(halves, hn::ShiftRight<32>(mixed)), prime);
        acc.at[v] = hn::Add(low, hn::ShiftLeft<32>(high));
    }
}

HWY_INLINE Accumulators load(const std::uint64_t *words) {
    Accumulators acc;
    for (std::size_t v = 0; v < kVectors; ++v)
        acc.at[v] = hn::LoadU(Words(), words + v * kWordLanes);
    return acc;
}

HWY_INLINE void store(const Accumulators &acc, std::uint64_t *words) {
    for (std::size_t v = 0; v < kVectors; ++v)
        hn::StoreU(acc.at[v], Words(), words + v * kWordLanes);
}

#endif

/// Hashes whole blocks that do not end the data. `read` and `write` are addresses of as many bytes that will be used next, or 0.
void checksum_blocks(std::uint64_t *words, const std::uint8_t *data, std::size_t blocks, std::uintptr_t read,
                     std::uintptr_t write) {
    Accumulators acc = load(words);
    for (; blocks != 0; --blocks, data += kBlockBytes) {
        for (std::size_t i = 0; i < kStripesPerBlock; ++i) {
            if (read != 0) __builtin_prefetch(reinterpret_cast<const void *>(read + i * kStripeBytes), 0);
            if (write != 0) __builtin_prefetch(reinterpret_cast<const void *>(write + i * kStripeBytes), 1);
            accumulate(acc, data + i * kStripeBytes, XXH3_kSecret + 8 * i);
        }
        scramble(acc, XXH3_kSecret + kSecretBytes - kStripeBytes);
        if (read != 0) read += kBlockBytes;
        if (write != 0) write += kBlockBytes;
    }
    store(acc, words);
}

/// Hashes the end of the data, at most one block. The last stripe is processed separately and can overlap the previous one.
void checksum_rest(std::uint64_t *words, const std::uint8_t *data, std::size_t bytes) {
    Accumulators acc = load(words);
    const std::size_t stripes = (bytes - 1) / kStripeBytes;
    for (std::size_t i = 0; i < stripes; ++i)
        accumulate(acc, data + i * kStripeBytes, XXH3_kSecret + 8 * i);
    accumulate(acc, data + bytes - kStripeBytes, XXH3_kSecret + kSecretBytes - kStripeBytes - 7);
    store(acc, words);
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pccl::kernel {

HWY_EXPORT(checksum_blocks);
HWY_EXPORT(checksum_rest);

static_assert(Checksum::kGrain == kBlockBytes);

Checksum::Checksum()
    : words_{XXH_PRIME32_3, XXH_PRIME64_1, XXH_PRIME64_2, XXH_PRIME64_3,
             XXH_PRIME64_4, XXH_PRIME32_2, XXH_PRIME64_5, XXH_PRIME32_1} {}

void Checksum::add(const void *data, std::size_t bytes, const void *read, void *write) {
    bytes_ += bytes;
    HWY_DYNAMIC_DISPATCH(checksum_blocks)
    (words_, static_cast<const std::uint8_t *>(data), bytes / kBlockBytes, reinterpret_cast<std::uintptr_t>(read),
     reinterpret_cast<std::uintptr_t>(write));
}

std::uint64_t Checksum::finish(const void *data, std::size_t bytes) {
    if (bytes_ == 0 && bytes <= kShortBytes) return XXH3_64bits(data, bytes);
    const auto *rest = static_cast<const std::uint8_t *>(data);
    const std::size_t blocks = (bytes - 1) / kBlockBytes;
    if (blocks != 0) add(rest, blocks * kBlockBytes);
    rest += blocks * kBlockBytes;
    bytes -= blocks * kBlockBytes;
    bytes_ += bytes;
    HWY_DYNAMIC_DISPATCH(checksum_rest)(words_, rest, bytes);
    return XXH3_mergeAccs(words_, XXH3_kSecret + 11, bytes_ * XXH_PRIME64_1);
}

std::uint64_t checksum(const void *data, std::size_t bytes) { return Checksum().finish(data, bytes); }

std::vector<std::uint64_t> chunk_checksums(const void *data, std::size_t bytes) {
    std::vector<std::uint64_t> sums;
    sums.reserve(bytes / kHashChunkBytes + 1);
    const auto *at = static_cast<const std::uint8_t *>(data);
    for (; bytes != 0;) {
        const std::size_t now = std::min(bytes, kHashChunkBytes);
        sums.push_back(checksum(at, now));
        at += now;
        bytes -= now;
    }
    return sums;
}

ContentHash content_hash(std::span<const std::uint64_t> chunk_checksums) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(chunk_checksums.data(), chunk_checksums.size_bytes()));
    ContentHash hash;
    std::memcpy(hash.bytes.data(), canonical.digest, hash.bytes.size());
    return hash;
}

}  // namespace pccl::kernel
#endif
