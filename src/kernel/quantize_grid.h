// Computes the numbers that quantize one block: from its minimum and maximum the two numbers on the wire and the sender's
// factors, and from the two numbers on the wire the receiver's factors. The formulas are those of quantize.h. This file makes
// the choices that they leave open.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernel/vocabulary.h"

namespace pccl::kernel {

template <class C> struct GridLimits;

template <> struct GridLimits<float> {
    static constexpr float kHuge = 0x1p126f;
    static constexpr float kTiny = 0x1p-60f;
    static constexpr float kEnlarge = 0x1p64f;
    static constexpr float kZeroPoint = 0x1p22f;  ///< limit of z: z and u - z are exact, and kRound rounds numbers up to it
    static constexpr float kRound = 0x1.8p23f;    ///< v + kRound is v rounded to an integer, in the low bits
    static constexpr float kNan = std::bit_cast<float>(0x7FC00000u);
};

template <> struct GridLimits<double> {
    static constexpr double kHuge = 0x1p1022;
    static constexpr double kTiny = 0x1p-900;
    static constexpr double kEnlarge = 0x1p200;
    static constexpr double kZeroPoint = 0x1p50;
    static constexpr double kRound = 0x1.8p52;
    static constexpr double kNan = std::bit_cast<double>(std::uint64_t{0x7FF8000000000000});
};

/// The two numbers of a block on the wire.
template <class C> struct Range {
    C first;
    C second;
};

/// u = round((x * up - base) * inverse) + zero.
template <class C> struct Encoder {
    C up;
    C base;
    C inverse;
    C zero;
};

/// value = ((u - zero) * scale + base) * down, limited to finite values. With `plain` there is no limit, and down is 1.
template <class C> struct Decoder {
    C zero;
    C scale;
    C base;
    C down;
    bool plain;
};

/// A power of two that multiplies numbers of this magnitude, so that their differences do not overflow and their fractions do not
/// vanish.
template <class C> C enlargement(C magnitude) {
    using Limits = GridLimits<C>;
    return magnitude >= Limits::kHuge ? C(0.25) : magnitude < Limits::kTiny ? Limits::kEnlarge : C(1);
}

template <class C> C magnitude(C low, C high) { return std::max(std::abs(low), std::abs(high)); }

template <class C> Encoder<C> min_max_encoder(C low, C high, C levels) {
    const C up = enlargement(magnitude(low, high));
    const C base = low * up;
    const C step = (high * up - base) / levels;
    return {up, base, step > 0 ? 1 / step : 0, 0};
}

template <class C> Decoder<C> min_max_decoder(Range<C> range, C levels) {
    const C up = enlargement(magnitude(range.first, range.second));
    const C base = range.first * up;
    return {0, (range.second * up - base) / levels, base, 1 / up, up == 1};
}

/// Rounding both ends to the grid can need one more step. Codes with many steps leave one step unused for this. Narrow codes
/// use all of their few steps: an end that rounds to the code after the highest or before the lowest was half a step from it,
/// and so it is half a step from the code that it gets.
template <class C> C zero_point_scale_of(C low, C high, C levels) {
    using Number = std::numeric_limits<C>;
    const C steps = levels < 255 ? levels : levels - 1;
    const C span = high - low;
    C scale = span <= Number::max() ? span / steps : high / steps - low / steps;
    if (scale < Number::min())
        scale += Number::denorm_min();  // the quotient may have been rounded down by more than the spare step allows
    return std::max(scale, magnitude(low, high) / GridLimits<C>::kZeroPoint);
}

/// Sets `range` to the two numbers for the wire.
template <class C> Encoder<C> zero_point_encoder(C low, C high, C levels, Range<C> &range) {
    using Limits = GridLimits<C>;
    if (low == high) {
        range = {low, -1};
        return {1, 0, 0, 0};  // u = 0 for every element
    }
    const C scale = zero_point_scale_of(low, high, levels);
    const C up = scale < Limits::kTiny ? Limits::kEnlarge : C(1);
    const C inverse = 1 / (scale * up);
    const C zero = -(((low * up) * inverse + Limits::kRound) - Limits::kRound);
    range = {scale, zero};
    return {up, 0, inverse, zero};
}

template <class C> Decoder<C> zero_point_decoder(Range<C> range, C levels) {
    const C largest = (std::abs(range.second) + levels) * std::abs(range.first);
    return {range.second, range.first, 0, 1, largest < GridLimits<C>::kHuge};
}

}  // namespace pccl::kernel
