// The scale of one block: from the largest magnitude in it to the bytes on the wire and the sender's factor, and from the bytes to the
// receiver's factor. The formulas are those of quantize.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernel/quantize_grid.h"
#include "kernel/types.h"

namespace pccl::kernel {

/// Blocks divide it.
inline constexpr std::size_t kScaleUnit = kMaxScaleBlock;

template <class C> struct ScaleFormat;
template <> struct ScaleFormat<float> {
    using Bits = std::uint32_t;
    using Power = std::uint8_t;  ///< an exponent on the wire
    static constexpr int kMantissa = 23;
    static constexpr int kTop = 254;  ///< the exponent of the largest finite numbers, as it is in their bits
    static constexpr Bits kInfinity = 0x7F800000;
    static constexpr float kPlain = std::numeric_limits<float>::max() / 128;  ///< no code times this overflows
};
template <> struct ScaleFormat<double> {
    using Bits = std::uint64_t;
    using Power = std::uint16_t;
    static constexpr int kMantissa = 52;
    static constexpr int kTop = 2046;
    static constexpr Bits kInfinity = std::uint64_t{0x7FF} << 52;
    static constexpr double kPlain = std::numeric_limits<double>::max() / 128;
};

/// Binary digits of the largest code before the last: 127.5 and 7.5, the first magnitudes that round beyond it, are a little less than
/// two times 2^6 and 2^2.
constexpr int scale_digits(bool nibbles) { return nibbles ? 2 : 6; }

/// The power of two with this exponent in its bits.
template <class C> C power(int exponent) {
    using Format = ScaleFormat<C>;
    return std::bit_cast<C>(static_cast<typename Format::Bits>(exponent) << Format::kMantissa);
}

/// Writes the scale of a block whose largest magnitude has the bits `largest`; returns the factor that makes codes of elements.
template <class C> C put_power(void *scale, typename ScaleFormat<C>::Bits largest, bool nibbles) {
    using Format = ScaleFormat<C>;
    const int shift = scale_digits(nibbles);
    int exponent = Format::kTop + 1;
    if (largest < Format::kInfinity) {
        // What rounds beyond the largest code carries into the exponent.
        const auto carried = largest + (typename Format::Bits{1} << (Format::kMantissa - 1 - shift));
        exponent = std::clamp(static_cast<int>(carried >> Format::kMantissa), shift + 1, Format::kTop);
    }
    const auto wire = static_cast<typename Format::Power>(exponent);
    std::memcpy(scale, &wire, sizeof wire);
    return power<C>(Format::kTop + shift - exponent);
}

template <class C> C put_float(void *scale, typename ScaleFormat<C>::Bits largest, bool nibbles) {
    using Format = ScaleFormat<C>;
    const C levels = nibbles ? 7 : 127;
    const C magnitude = std::bit_cast<C>(largest);
    C wire = magnitude / levels, inverse = 0;
    if (largest >= Format::kInfinity) {
        wire = GridLimits<C>::kNan;
    } else if (largest != 0 && wire < std::numeric_limits<C>::min()) {
        wire = std::numeric_limits<C>::min();
        inverse = power<C>(Format::kTop - 1);
    } else if (largest != 0) {
        inverse = levels / magnitude;
    }
    std::memcpy(scale, &wire, sizeof wire);
    return inverse;
}

/// The scale; not finite: the block is NaN.
template <class C> C get_power(const void *scale, bool nibbles) {
    using Format = ScaleFormat<C>;
    typename Format::Power wire;
    std::memcpy(&wire, scale, sizeof wire);
    const int shift = scale_digits(nibbles);
    if (wire > Format::kTop) return GridLimits<C>::kNan;
    return power<C>(std::max<int>(wire, shift + 1) - shift);
}

template <class C> C get_float(const void *scale) {
    C wire;
    std::memcpy(&wire, scale, sizeof wire);
    return wire;
}

}  // namespace pccl::kernel
