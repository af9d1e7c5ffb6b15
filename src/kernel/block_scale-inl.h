// One unit of kScaleUnit elements to signed codes with a scale for each block of it, and back. Partial units are padded by the caller.
#if defined(PCCL_KERNEL_BLOCK_SCALE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PCCL_KERNEL_BLOCK_SCALE_INL_H_
#undef PCCL_KERNEL_BLOCK_SCALE_INL_H_
#else
#define PCCL_KERNEL_BLOCK_SCALE_INL_H_
#endif

#include <algorithm>

#include "kernel/lanes-inl.h"
#include "kernel/scale_format.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

/// Every block is a multiple of this, and this of every vector.
inline constexpr std::size_t kRun = 32;

/// The bits of the largest magnitude: as integers they order like the magnitudes, infinity and NaN above all numbers.
template <class C> HWY_INLINE typename ScaleFormat<C>::Bits largest_magnitude(const void *block, std::size_t count) {
    using Bits = typename ScaleFormat<C>::Bits;
    const hn::ScalableTag<std::make_signed_t<Bits>> d;
    using V = hn::Vec<decltype(d)>;
    constexpr std::size_t kLanes = hn::MaxLanes(hn::ScalableTag<C>());
    constexpr std::size_t kVectors = kRun / kLanes;
    constexpr std::size_t kChains = std::min<std::size_t>(kVectors, 4);
    const V magnitude = hn::Set(d, std::numeric_limits<std::make_signed_t<Bits>>::max());
    V largest[kChains];
    for (std::size_t k = 0; k < kChains; ++k)
        largest[k] = hn::Zero(d);
    for (std::size_t run = 0; run < count; run += kRun)
        for (std::size_t i = 0; i < kVectors; ++i)
            largest[i % kChains] = hn::Max(largest[i % kChains], hn::And(load(d, block, run + i * kLanes), magnitude));
    for (std::size_t k = 1; k < kChains; ++k)
        largest[0] = hn::Max(largest[0], largest[k]);
    return static_cast<Bits>(hn::GetLane(hn::MaxOfLanes(d, largest[0])));
}

HWY_INLINE auto round_to_bytes(hn::ScalableTag<float> d, hn::Vec<hn::ScalableTag<float>> t) {
    constexpr float kRound = GridLimits<float>::kRound;
    const hn::RebindToSigned<decltype(d)> ints;
    const auto in_low_bits = hn::BitCast(ints, hn::Add(t, hn::Set(d, kRound)));
    return saturate_to_bytes(ints, hn::Sub(in_low_bits, hn::Set(ints, std::bit_cast<std::int32_t>(kRound))));
}

HWY_INLINE auto round_to_bytes(hn::ScalableTag<double> d, hn::Vec<hn::ScalableTag<double>> t) {
    const auto round = hn::Set(d, GridLimits<double>::kRound);
    const auto in_ints = hn::DemoteTo(hn::Rebind<std::int32_t, decltype(d)>(), hn::Sub(hn::Add(t, round), round));
    return hn::DemoteTo(hn::Rebind<std::int8_t, decltype(d)>(), in_ints);
}

HWY_INLINE auto from_bytes(hn::ScalableTag<float> d, hn::Vec<hn::Rebind<std::int8_t, hn::ScalableTag<float>>> codes) {
    return hn::ConvertTo(d, hn::PromoteTo(hn::RebindToSigned<decltype(d)>(), codes));
}

HWY_INLINE auto from_bytes(hn::ScalableTag<double> d, hn::Vec<hn::Rebind<std::int8_t, hn::ScalableTag<double>>> codes) {
    return hn::PromoteTo(d, hn::PromoteTo(hn::Rebind<std::int32_t, decltype(d)>(), codes));
}

template <class C> HWY_INLINE void encode_run(C inverse, std::int8_t *codes, const void *block, std::size_t count) {
    const hn::ScalableTag<C> d;
    const hn::Rebind<std::int8_t, decltype(d)> d_code;
    constexpr std::size_t kLanes = hn::MaxLanes(hn::ScalableTag<C>());
    const auto by = hn::Set(d, inverse);
    for (std::size_t run = 0; run < count; run += kRun)
        for (std::size_t i = run; i < run + kRun; i += kLanes)
            store(d_code, codes, i, round_to_bytes(d, hn::Mul(load(d, block, i), by)));
}

template <bool kPlain, class C> HWY_INLINE void decode_run(C scale, void *out, const std::int8_t *codes, std::size_t count) {
    const hn::ScalableTag<C> d;
    const hn::Rebind<std::int8_t, decltype(d)> d_code;
    constexpr std::size_t kLanes = hn::MaxLanes(hn::ScalableTag<C>());
    const auto by = hn::Set(d, scale), largest = hn::Set(d, std::numeric_limits<C>::max());
    for (std::size_t run = 0; run < count; run += kRun)
        for (std::size_t i = run; i < run + kRun; i += kLanes) {
            auto value = hn::Mul(from_bytes(d, load(d_code, codes, i)), by);
            if constexpr (!kPlain) value = hn::Min(hn::Max(value, hn::Neg(largest)), largest);
            store(d, out, i, value);
        }
}

/// Two codes of four bits in a byte, the first in its low half; a code of 8, which rounding may give, becomes 7.
HWY_INLINE void join_nibbles(std::uint8_t *out, const std::int8_t *codes) {
    const hn::ScalableTag<std::uint16_t> d;
    const hn::RebindToSigned<decltype(d)> d_signed;
    const hn::Repartition<std::int8_t, decltype(d)> d_byte;
    const hn::Rebind<std::uint8_t, decltype(d)> d_out;
    const std::size_t lanes = hn::Lanes(d);
    const auto low = hn::Set(d, std::uint16_t{0x0F}), high = hn::Set(d, std::uint16_t{0xF0});
    for (std::size_t i = 0; i < kScaleUnit / 2; i += lanes) {
#if HWY_TARGET == HWY_SCALAR
        static_cast<void>(d_byte), static_cast<void>(d_signed), static_cast<void>(d_out), static_cast<void>(low), static_cast<void>(high);
        out[i] = static_cast<std::uint8_t>((std::min(codes[2 * i], std::int8_t{7}) & 0x0F) | (std::min(codes[2 * i + 1], std::int8_t{7}) << 4));
#else
        const auto limited = hn::BitCast(d, hn::Min(load(d_byte, codes, 2 * i), hn::Set(d_byte, std::int8_t{7})));
        const auto joined = hn::Or(hn::And(limited, low), hn::And(hn::ShiftRight<4>(limited), high));
        store(d_out, out, i, hn::DemoteTo(d_out, hn::BitCast(d_signed, joined)));
#endif
    }
}

HWY_INLINE void split_nibbles(std::int8_t *codes, const std::uint8_t *in) {
    const hn::ScalableTag<std::uint16_t> d;
    const hn::Repartition<std::int8_t, decltype(d)> d_byte;
    const hn::Rebind<std::uint8_t, decltype(d)> d_in;
    const std::size_t lanes = hn::Lanes(d);
    for (std::size_t i = 0; i < kScaleUnit / 2; i += lanes) {
#if HWY_TARGET == HWY_SCALAR
        static_cast<void>(d_byte), static_cast<void>(d_in);
        codes[2 * i] = static_cast<std::int8_t>(((in[i] & 0x0F) ^ 8) - 8);
        codes[2 * i + 1] = static_cast<std::int8_t>(((in[i] >> 4) ^ 8) - 8);
#else
        const auto joined = hn::PromoteTo(d, load(d_in, in, i));
        const auto apart = hn::And(hn::Or(joined, hn::ShiftLeft<4>(joined)), hn::Set(d, std::uint16_t{0x0F0F}));
        const auto sign = hn::Set(d_byte, std::int8_t{8});
        store(d_byte, codes, 2 * i, hn::Sub(hn::Xor(hn::BitCast(d_byte, apart), sign), sign));
#endif
    }
}

/// `scales` gets kScaleUnit / block of them, `codes` kScaleUnit bytes or half as many.
template <class C> void encode_unit(const Quantization &how, std::uint8_t *scales, std::uint8_t *codes, const void *unit) {
    const bool nibbles = how.type == Type::i4, powers = how.scale == Scale::power_of_two;
    const std::size_t block = how.block;
    alignas(64) std::int8_t bytes[kScaleUnit];
    std::int8_t *const to = nibbles ? bytes : reinterpret_cast<std::int8_t *>(codes);
    for (std::size_t i = 0; i < kScaleUnit; i += block) {
        const void *const values = static_cast<const C *>(unit) + i;
        const auto bits = largest_magnitude<C>(values, block);
        const C inverse = powers ? put_power<C>(scales, bits, nibbles) : put_float<C>(scales, bits, nibbles);
        scales += powers ? sizeof(typename ScaleFormat<C>::Power) : sizeof(C);
        if (bits < ScaleFormat<C>::kInfinity)
            encode_run(inverse, to + i, values, block);
        else
            std::memset(to + i, 0, block);
    }
    if (nibbles) join_nibbles(codes, bytes);
}

template <class C> void decode_unit(const Quantization &how, void *out, const std::uint8_t *scales, const std::uint8_t *codes) {
    static constexpr C kNan = GridLimits<C>::kNan;
    const bool nibbles = how.type == Type::i4, powers = how.scale == Scale::power_of_two;
    const std::size_t block = how.block;
    alignas(64) std::int8_t bytes[kScaleUnit];
    if (nibbles) split_nibbles(bytes, codes);
    const std::int8_t *const from = nibbles ? bytes : reinterpret_cast<const std::int8_t *>(codes);
    for (std::size_t i = 0; i < kScaleUnit; i += block) {
        C *const values = static_cast<C *>(out) + i;
        const C scale = powers ? get_power<C>(scales, nibbles) : get_float<C>(scales);
        scales += powers ? sizeof(typename ScaleFormat<C>::Power) : sizeof(C);
        if (std::abs(scale) <= ScaleFormat<C>::kPlain)
            decode_run<true>(scale, values, from + i, block);
        else if (std::isfinite(scale))
            decode_run<false>(scale, values, from + i, block);
        else
            for (std::size_t j = 0; j < block; ++j) std::memcpy(values + j, &kNan, sizeof(C));  // at any alignment
    }
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
