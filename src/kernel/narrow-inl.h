// Codes of 4 and 2 bits: two or four share a byte, the first in its lowest bits.
#if defined(PCCL_KERNEL_NARROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PCCL_KERNEL_NARROW_INL_H_
#undef PCCL_KERNEL_NARROW_INL_H_
#else
#define PCCL_KERNEL_NARROW_INL_H_
#endif

#include <algorithm>

#include "kernel/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

/// The word whose bytes are the codes of one packed byte.
template <int kBits> struct NarrowWord;
template <> struct NarrowWord<4> { using Type = std::uint16_t; };
template <> struct NarrowWord<2> { using Type = std::uint32_t; };

/// Packs the low kBits of min(code, kMost) + kOffset. `count` is a multiple of 256.
template <int kBits, int kMost, int kOffset>
HWY_INLINE void join_codes(std::uint8_t *out, const std::int8_t *codes, std::size_t count) {
    using Word = typename NarrowWord<kBits>::Type;
    constexpr std::size_t kPerByte = 8 / kBits;
    const hn::ScalableTag<Word> d;
    const std::size_t lanes = hn::Lanes(d);
    for (std::size_t i = 0; i < count / kPerByte; i += lanes) {
#if HWY_TARGET == HWY_SCALAR
        unsigned joined = 0;
        for (std::size_t k = 0; k < kPerByte; ++k) {
            const int code = std::min<int>(codes[kPerByte * i + k], kMost) + kOffset;
            joined |= (static_cast<unsigned>(code) & ((1u << kBits) - 1)) << (kBits * k);
        }
        out[i] = static_cast<std::uint8_t>(joined);
#else
        const hn::Repartition<std::int8_t, decltype(d)> d_byte;
        const hn::Rebind<std::uint8_t, decltype(d)> d_out;
        const hn::RebindToSigned<decltype(d)> d_signed;
        auto limited = hn::Min(load(d_byte, codes, kPerByte * i), hn::Set(d_byte, std::int8_t{kMost}));
        if constexpr (kOffset != 0) limited = hn::Add(limited, hn::Set(d_byte, std::int8_t{kOffset}));
        const auto word = hn::BitCast(d, limited);
        if constexpr (kBits == 4) {
            const auto low = hn::Set(d, std::uint16_t{0x0F}), high = hn::Set(d, std::uint16_t{0xF0});
            const auto joined = hn::Or(hn::And(word, low), hn::And(hn::ShiftRight<4>(word), high));
            store(d_out, out, i, hn::DemoteTo(d_out, hn::BitCast(d_signed, joined)));
        } else {
            const auto apart = hn::And(word, hn::Set(d, 0x03030303u));
            const auto pairs = hn::Or(apart, hn::ShiftRight<6>(apart));
            const auto joined = hn::And(hn::Or(pairs, hn::ShiftRight<12>(pairs)), hn::Set(d, 0xFFu));
            store(d_out, out, i, hn::DemoteTo(d_out, hn::BitCast(d_signed, joined)));
        }
#endif
    }
}

/// Each code is (bits XOR kFlip) - kMinus. `count` is a multiple of 256.
template <int kBits, int kFlip, int kMinus>
HWY_INLINE void split_codes(std::int8_t *codes, const std::uint8_t *in, std::size_t count) {
    using Word = typename NarrowWord<kBits>::Type;
    constexpr std::size_t kPerByte = 8 / kBits;
    const hn::ScalableTag<Word> d;
    const std::size_t lanes = hn::Lanes(d);
    for (std::size_t i = 0; i < count / kPerByte; i += lanes) {
#if HWY_TARGET == HWY_SCALAR
        for (std::size_t k = 0; k < kPerByte; ++k) {
            const int bits = (in[i] >> (kBits * k)) & ((1 << kBits) - 1);
            codes[kPerByte * i + k] = static_cast<std::int8_t>((bits ^ kFlip) - kMinus);
        }
#else
        const hn::Repartition<std::int8_t, decltype(d)> d_byte;
        const hn::Rebind<std::uint8_t, decltype(d)> d_in;
        auto word = hn::PromoteTo(d, load(d_in, in, i));
        if constexpr (kBits == 4) {
            word = hn::And(hn::Or(word, hn::ShiftLeft<4>(word)), hn::Set(d, std::uint16_t{0x0F0F}));
        } else {
            word = hn::Or(word, hn::ShiftLeft<12>(word));
            word = hn::And(hn::Or(word, hn::ShiftLeft<6>(word)), hn::Set(d, 0x03030303u));
        }
        auto code = hn::BitCast(d_byte, word);
        if constexpr (kFlip != 0) code = hn::Xor(code, hn::Set(d_byte, std::int8_t{kFlip}));
        if constexpr (kMinus != 0) code = hn::Sub(code, hn::Set(d_byte, std::int8_t{kMinus}));
        store(d_byte, codes, kPerByte * i, code);
#endif
    }
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
