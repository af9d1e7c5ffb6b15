// XXH3-64 whose loop over long inputs is as wide as the machine: xxhash.h alone would choose the width at compile time.
//
// The loop is that of the XXH3 specification (64-byte stripes, blocks of 16, scrambled after each); tests compare it with
// xxhash's own.
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
inline constexpr std::size_t kShortBytes = 240;  ///< up to here XXH3 is another function, without the loop

}  // namespace pccl::kernel

#endif

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

std::uint64_t checksum_long(const std::uint8_t *data, std::size_t bytes) { return XXH3_64bits(data, bytes); }

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

std::uint64_t checksum_long(const std::uint8_t *data, std::size_t bytes) {
    HWY_ALIGN std::uint64_t words[8] = {XXH_PRIME32_3, XXH_PRIME64_1, XXH_PRIME64_2, XXH_PRIME64_3,
                                        XXH_PRIME64_4, XXH_PRIME32_2, XXH_PRIME64_5, XXH_PRIME32_1};
    const std::uint8_t *const secret = XXH3_kSecret;
    Accumulators acc;
    for (std::size_t v = 0; v < kVectors; ++v)
        acc.at[v] = hn::Load(Words(), words + v * kWordLanes);
    // The last stripe is taken apart, and may overlap the one before.
    const std::size_t stripes = (bytes - 1) / kStripeBytes;
    const std::uint8_t *stripe = data;
    for (std::size_t left = stripes; left != 0;) {
        const std::size_t now = std::min(left, kStripesPerBlock);
        for (std::size_t i = 0; i < now; ++i, stripe += kStripeBytes)
            accumulate(acc, stripe, secret + 8 * i);
        if (now == kStripesPerBlock) scramble(acc, secret + kSecretBytes - kStripeBytes);
        left -= now;
    }
    accumulate(acc, data + bytes - kStripeBytes, secret + kSecretBytes - kStripeBytes - 7);
    for (std::size_t v = 0; v < kVectors; ++v)
        hn::Store(acc.at[v], Words(), words + v * kWordLanes);
    return XXH3_mergeAccs(words, secret + 11, bytes * XXH_PRIME64_1);
}

#endif

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pccl::kernel {

HWY_EXPORT(checksum_long);

std::uint64_t checksum(const void *data, std::size_t bytes) {
    if (bytes <= kShortBytes) return XXH3_64bits(data, bytes);
    return HWY_DYNAMIC_DISPATCH(checksum_long)(static_cast<const std::uint8_t *>(data), bytes);
}

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
