// Converts one unit of kScaleUnit elements to codes with a scale for each block, and back. The caller pads partial units.
#if defined(PCCL_KERNEL_BLOCK_SCALE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PCCL_KERNEL_BLOCK_SCALE_INL_H_
#undef PCCL_KERNEL_BLOCK_SCALE_INL_H_
#else
#define PCCL_KERNEL_BLOCK_SCALE_INL_H_
#endif

#include <algorithm>

#include "kernel/lanes-inl.h"
#include "kernel/narrow-inl.h"
#include "kernel/scale_format.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

/// Every block is a multiple of this number, and this number is a multiple of every vector.
inline constexpr std::size_t kRun = 32;

/// Converts elements to integers whose order find_largest uses: the bits of magnitudes, with infinity and NaN above all
/// numbers. With kSign, the positive one of two equal magnitudes is larger.
template <bool kSign, class D> HWY_INLINE hn::Vec<D> order(D d, hn::Vec<D> x) {
    using Signed = hn::TFromD<D>;
    using Bits = std::make_unsigned_t<Signed>;
    if constexpr (kSign) {
        // The sign moves to the lowest bit and is inverted; the highest bit is inverted so that signed integers order like
        // unsigned ones.
        const hn::RebindToUnsigned<D> bits;
        constexpr Bits kInvert = (Bits{1} << (8 * sizeof(Bits) - 1)) | 1;
        const auto from = hn::BitCast(bits, x);
        const auto turned = hn::Or(hn::ShiftLeft<1>(from), hn::ShiftRight<8 * sizeof(Bits) - 1>(from));
        return hn::BitCast(d, hn::Xor(turned, hn::Set(bits, kInvert)));
    } else {
        return hn::And(x, hn::Set(d, std::numeric_limits<Signed>::max()));
    }
}

template <bool kSign, class C> HWY_INLINE Largest<C> find_largest(const void *block, std::size_t count) {
    using Bits = typename ScaleFormat<C>::Bits;
    using Signed = std::make_signed_t<Bits>;
    const hn::ScalableTag<Signed> d;
    using V = hn::Vec<decltype(d)>;
    constexpr std::size_t kLanes = hn::MaxLanes(hn::ScalableTag<C>());
    constexpr std::size_t kVectors = kRun / kLanes;
    constexpr std::size_t kChains = std::min<std::size_t>(kVectors, 4);
    V largest[kChains];
    for (std::size_t k = 0; k < kChains; ++k)
        largest[k] = order<kSign>(d, hn::Zero(d));
    for (std::size_t run = 0; run < count; run += kRun)
        for (std::size_t i = 0; i < kVectors; ++i)
            largest[i % kChains] = hn::Max(largest[i % kChains], order<kSign>(d, load(d, block, run + i * kLanes)));
    for (std::size_t k = 1; k < kChains; ++k)
        largest[0] = hn::Max(largest[0], largest[k]);
    const Bits found = static_cast<Bits>(hn::GetLane(hn::MaxOfLanes(d, largest[0])));
    if constexpr (kSign)
        return {static_cast<Bits>((found ^ (Bits{1} << (8 * sizeof(Bits) - 1))) >> 1), (found & 1) != 0};
    else
        return {found, false};
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

/// With kSignedScale, the values of zero codes are positive zeros for either sign of the scale.
template <class Codes, bool kPlain, class C>
HWY_INLINE void decode_run(C scale, void *out, const std::int8_t *codes, std::size_t count) {
    const hn::ScalableTag<C> d;
    const hn::Rebind<std::int8_t, decltype(d)> d_code;
    constexpr std::size_t kLanes = hn::MaxLanes(hn::ScalableTag<C>());
    const auto by = hn::Set(d, scale), largest = hn::Set(d, std::numeric_limits<C>::max());
    for (std::size_t run = 0; run < count; run += kRun)
        for (std::size_t i = run; i < run + kRun; i += kLanes) {
            auto value = hn::Mul(from_bytes(d, load(d_code, codes, i)), by);
            if constexpr (Codes::kSignedScale) value = hn::Add(value, hn::Zero(d));
            if constexpr (!kPlain) value = hn::Min(hn::Max(value, hn::Neg(largest)), largest);
            store(d, out, i, value);
        }
}

/// `scales` receives the scales of kScaleUnit / block blocks, and `codes` the codes of kScaleUnit elements.
template <class Codes, class C>
void encode_unit(const Quantization &how, std::uint8_t *scales, std::uint8_t *codes, const void *unit) {
    constexpr bool kNarrow = Codes::kBits < 8;
    constexpr int kHighest = Codes::kSignedScale ? Codes::kLargest - 1 : Codes::kLargest,
                  kOffset = Codes::kSignedScale ? Codes::kLargest : 0;
    const std::size_t block = how.block, scale_size = scale_bytes(how, sizeof(C) == 8);
    alignas(64) std::int8_t bytes[kNarrow ? kScaleUnit : 1];
    std::int8_t *const to = kNarrow ? bytes : reinterpret_cast<std::int8_t *>(codes);
    for (std::size_t i = 0; i < kScaleUnit; i += block) {
        const void *const values = static_cast<const C *>(unit) + i;
        const Largest<C> largest = find_largest<Codes::kSignedScale, C>(values, block);
        const C inverse = put_scale<Codes, C>(how.scale, scales, largest);
        scales += scale_size;
        if (largest.bits < ScaleFormat<C>::kInfinity)
            encode_run(inverse, to + i, values, block);
        else
            std::memset(to + i, 0, block);
    }
    // Rounding can give an element the code after the highest code. It then gets the highest code.
    if constexpr (kNarrow) join_codes<Codes::kBits, kHighest, kOffset>(codes, bytes, kScaleUnit);
}

template <class Codes, class C>
void decode_unit(const Quantization &how, void *out, const std::uint8_t *scales, const std::uint8_t *codes) {
    static constexpr C kNan = GridLimits<C>::kNan;
    constexpr bool kNarrow = Codes::kBits < 8;
    constexpr int kSign = 1 << (Codes::kBits - 1);
    const std::size_t block = how.block, scale_size = scale_bytes(how, sizeof(C) == 8);
    alignas(64) std::int8_t bytes[kNarrow ? kScaleUnit : 1];
    if constexpr (kNarrow) split_codes<Codes::kBits, Codes::kSignedScale ? 0 : kSign, kSign>(bytes, codes, kScaleUnit);
    const std::int8_t *const from = kNarrow ? bytes : reinterpret_cast<const std::int8_t *>(codes);
    for (std::size_t i = 0; i < kScaleUnit; i += block) {
        C *const values = static_cast<C *>(out) + i;
        const C scale = get_scale<Codes, C>(how.scale, scales);
        scales += scale_size;
        if (std::abs(scale) <= ScaleFormat<C>::kPlain)
            decode_run<Codes, true>(scale, values, from + i, block);
        else if (std::isfinite(scale))
            decode_run<Codes, false>(scale, values, from + i, block);
        else
            for (std::size_t j = 0; j < block; ++j)
                std::memcpy(values + j, &kNan, sizeof(C));  // at any alignment
    }
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
