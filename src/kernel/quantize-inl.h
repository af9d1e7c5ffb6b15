// Converts one whole block of kQuantBlock elements to codes, and back. The caller pads partial blocks.
#if defined(PCCL_KERNEL_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PCCL_KERNEL_QUANTIZE_INL_H_
#undef PCCL_KERNEL_QUANTIZE_INL_H_
#else
#define PCCL_KERNEL_QUANTIZE_INL_H_
#endif

#include <type_traits>

#include <hwy/cache_control.h>

#include "kernel/lanes-inl.h"
#include "kernel/narrow-inl.h"
#include "kernel/quantize_grid.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

/// Smallest and largest element (a zero is +0), and whether all elements are finite. If not, the extrema have no meaning.
template <class C> struct Extrema {
    C low;
    C high;
    bool finite;
};

template <class C> HWY_INLINE Extrema<C> find_extrema(const void *block) {
    const hn::ScalableTag<C> d;
    using V = hn::Vec<decltype(d)>;
    constexpr std::size_t kLanes = hn::MaxLanes(hn::ScalableTag<C>());
    constexpr std::size_t kChains = 4;  // hides the latency of min and max
    V low[kChains], high[kChains], rest[kChains];
    for (std::size_t k = 0; k < kChains; ++k) {
        const V x = load(d, block, k * kLanes);
        low[k] = x;
        high[k] = x;
        rest[k] = hn::Mul(x, hn::Zero(d));
    }
    for (std::size_t i = kChains * kLanes; i < kQuantBlock; i += kChains * kLanes) {
        for (std::size_t k = 0; k < kChains; ++k) {
            const V x = load(d, block, i + k * kLanes);
            low[k] = hn::Min(low[k], x);
            high[k] = hn::Max(high[k], x);
            rest[k] = hn::MulAdd(x, hn::Zero(d), rest[k]);  // zero, or NaN if any x is not finite
        }
    }
    const V all_low = hn::Min(hn::Min(low[0], low[1]), hn::Min(low[2], low[3]));
    const V all_high = hn::Max(hn::Max(high[0], high[1]), hn::Max(high[2], high[3]));
    const V all_rest = hn::Add(hn::Add(rest[0], rest[1]), hn::Add(rest[2], rest[3]));
    return {hn::GetLane(hn::MinOfLanes(d, all_low)) + C(0), hn::GetLane(hn::MaxOfLanes(d, all_high)) + C(0),
            hn::AllTrue(d, hn::Eq(all_rest, hn::Zero(d)))};
}

/// The codes of signed types are those of unsigned types with the top bit inverted.
template <class DCode> HWY_INLINE hn::Vec<DCode> flip(DCode d, hn::Vec<DCode> code, bool is_signed) {
    using U = hn::TFromD<DCode>;
    return hn::Xor(code, hn::Set(d, is_signed ? static_cast<U>(U{1} << (8 * sizeof(U) - 1)) : U{0}));
}

/// Rounds t to an integer, adds zero, and returns codes. The sum is a code or outside the range by one.
template <class U> HWY_INLINE auto to_codes(hn::ScalableTag<float> d, hn::Vec<hn::ScalableTag<float>> t, float zero) {
    constexpr float kRound = GridLimits<float>::kRound;
    const hn::RebindToSigned<decltype(d)> ints;
    const hn::Rebind<U, decltype(d)> d_code;
    constexpr std::int32_t kSigned = sizeof(U) == 1 ? 128 : 0;  // bytes are converted as signed bytes
    const auto shift = static_cast<std::int32_t>(zero) - std::bit_cast<std::int32_t>(kRound) - kSigned;
    const auto u = hn::Add(hn::BitCast(ints, hn::Add(t, hn::Set(d, kRound))), hn::Set(ints, shift));
    if constexpr (sizeof(U) == 1)
        return flip(d_code, hn::BitCast(d_code, saturate_to_bytes(ints, u)), true);
    else
        return hn::DemoteTo(d_code, u);
}

template <class U> HWY_INLINE auto to_codes(hn::ScalableTag<double> d, hn::Vec<hn::ScalableTag<double>> t, double zero) {
    const auto round = hn::Set(d, GridLimits<double>::kRound);
    const auto u = hn::Add(hn::Sub(hn::Add(t, round), round), hn::Set(d, zero));
    const auto in_ints = hn::DemoteTo(hn::Rebind<std::int32_t, decltype(d)>(), u);
    return hn::DemoteTo(hn::Rebind<U, decltype(d)>(), in_ints);
}

/// Memory is prefetched at this distance ahead of packing. A prefetch beyond the buffer's end has no effect.
inline constexpr std::size_t kAhead = 2048;

template <bool kPlain, class U, class C>
HWY_INLINE void encode(const Encoder<C> &how, bool is_signed, std::uint8_t *codes, const void *block) {
    const hn::ScalableTag<C> d;
    const hn::Rebind<U, decltype(d)> d_code;
    const auto up = hn::Set(d, how.up), base = hn::Set(d, how.base), inverse = hn::Set(d, how.inverse);
    for (std::size_t i = 0; i < kQuantBlock; i += hn::Lanes(d)) {
        auto x = load(d, block, i);
        hwy::Prefetch(static_cast<const C *>(block) + i + kAhead / sizeof(C));
        if constexpr (!kPlain) x = hn::Mul(x, up);
        const auto t = hn::Mul(hn::Sub(x, base), inverse);
        store(d_code, codes, i, flip(d_code, to_codes<U>(d, t, how.zero), is_signed));
    }
}

template <class U> HWY_INLINE auto to_floats(hn::ScalableTag<float> d, hn::Vec<hn::Rebind<U, hn::ScalableTag<float>>> u) {
    return hn::ConvertTo(d, hn::PromoteTo(hn::RebindToSigned<decltype(d)>(), u));
}

template <class U> HWY_INLINE auto to_floats(hn::ScalableTag<double> d, hn::Vec<hn::Rebind<U, hn::ScalableTag<double>>> u) {
    return hn::PromoteTo(d, hn::PromoteTo(hn::Rebind<std::int32_t, decltype(d)>(), u));
}

template <bool kPlain, class U, class C>
HWY_INLINE void decode(const Decoder<C> &how, bool is_signed, void *out, const std::uint8_t *codes) {
    const hn::ScalableTag<C> d;
    const hn::Rebind<U, decltype(d)> d_code;
    const auto zero = hn::Set(d, how.zero), scale = hn::Set(d, how.scale), base = hn::Set(d, how.base);
    const auto down = hn::Set(d, how.down), largest = hn::Set(d, std::numeric_limits<C>::max());
    for (std::size_t i = 0; i < kQuantBlock; i += hn::Lanes(d)) {
        const auto u = to_floats<U>(d, flip(d_code, load(d_code, codes, i), is_signed));
        auto value = hn::Add(hn::Mul(hn::Sub(u, zero), scale), base);
        if constexpr (!kPlain) value = hn::Min(hn::Max(hn::Mul(value, down), hn::Neg(largest)), largest);
        store(d, out, i, value);
    }
}

/// The codes of a quantized type: kLevels steps; U holds one code in memory.
template <Type kType> struct RangeCodes {
    static constexpr int kBits = static_cast<int>(bits_of(kType));
    static constexpr bool kSigned = kType == Type::i8 || kType == Type::i16;
    static constexpr int kLevels = (1 << kBits) - 1;
    using U = std::conditional_t<kBits <= 8, std::uint8_t, std::uint16_t>;
    static constexpr std::size_t kBlockBytes = code_bytes(kType, kQuantBlock);
};

/// `out` has room for the range and the codes of kQuantBlock elements.
template <class Codes, class C> void encode_block(Quantization how, std::uint8_t *out, const void *block) {
    using U = typename Codes::U;
    constexpr C kLevels = Codes::kLevels;
    constexpr bool kNarrow = Codes::kBits < 8;
    std::uint8_t *const codes = out + sizeof(Range<C>);
    const Extrema<C> extrema = find_extrema<C>(block);
    Range<C> range{GridLimits<C>::kNan, GridLimits<C>::kNan};
    if (!extrema.finite) {
        std::memcpy(out, &range, sizeof range);
        std::memset(codes, 0, Codes::kBlockBytes);
        return;
    }
    range = {extrema.low, extrema.high};
    const auto encoder = how.algorithm == Quant::min_max ? min_max_encoder(range.first, range.second, kLevels)
                                                         : zero_point_encoder(extrema.low, extrema.high, kLevels, range);
    std::memcpy(out, &range, sizeof range);
    alignas(64) std::uint8_t bytes[kNarrow ? kQuantBlock : 1];
    std::uint8_t *const to = kNarrow ? bytes : codes;
    if (encoder.up == 1)
        encode<true, U>(encoder, Codes::kSigned, to, block);
    else
        encode<false, U>(encoder, Codes::kSigned, to, block);
    // Rounding can give the code after the highest code. It then becomes the highest code.
    if constexpr (kNarrow)
        join_codes<Codes::kBits, Codes::kLevels, 0>(codes, reinterpret_cast<const std::int8_t *>(bytes), kQuantBlock);
}

/// `packed` has a range and kQuantBlock codes; `out` room for as many values.
template <class Codes, class C> void decode_block(Quantization how, void *out, const std::uint8_t *packed) {
    using U = typename Codes::U;
    constexpr C kLevels = Codes::kLevels;
    constexpr bool kNarrow = Codes::kBits < 8;
    Range<C> range;
    std::memcpy(&range, packed, sizeof range);
    const std::uint8_t *codes = packed + sizeof range;
    if (!std::isfinite(range.first) || !std::isfinite(range.second)) {
        const hn::ScalableTag<C> d;
        for (std::size_t i = 0; i < kQuantBlock; i += hn::Lanes(d))
            store(d, out, i, hn::Set(d, GridLimits<C>::kNan));
        return;
    }
    alignas(64) std::uint8_t bytes[kNarrow ? kQuantBlock : 1];
    if constexpr (kNarrow) {
        split_codes<Codes::kBits, 0, 0>(reinterpret_cast<std::int8_t *>(bytes), codes, kQuantBlock);
        codes = bytes;
    }
    const auto decoder = how.algorithm == Quant::min_max ? min_max_decoder(range, kLevels) : zero_point_decoder(range, kLevels);
    if (decoder.plain)
        decode<true, U>(decoder, Codes::kSigned, out, codes);
    else
        decode<false, U>(decoder, Codes::kSigned, out, codes);
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
