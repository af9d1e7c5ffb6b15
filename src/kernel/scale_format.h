// Computes the scale of one block: from the largest magnitude the bytes on the wire and the sender's factor, and from the bytes
// the receiver's factor. The formulas are those of quantize.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernel/quantize_grid.h"
#include "kernel/vocabulary.h"

namespace pccl::kernel {

/// A multiple of every block size.
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

/// The codes of a quantized type. Codes of i8 and i4 are -kLargest to kLargest. With `kSignedScale` codes are -kLargest to
/// kLargest - 1, and the sign of the scale gives the element of largest magnitude the code -kLargest.
///
/// kDigits: the number of binary digits of kLargest minus one. The smallest magnitudes that round beyond 127 and 7 are 127.5
/// and 7.5, which are less than two times 2^6 and 2^2. The largest magnitudes that round to 8 and 2 are 8.5 and 2.5.
template <Type kType> struct ScaledCodes;
template <> struct ScaledCodes<Type::i8> {
    static constexpr Type kType = Type::i8;
    static constexpr int kBits = 8, kLargest = 127, kDigits = 6;
    static constexpr bool kSignedScale = false;
};
template <> struct ScaledCodes<Type::i4> {
    static constexpr Type kType = Type::i4;
    static constexpr int kBits = 4, kLargest = 7, kDigits = 2;
    static constexpr bool kSignedScale = false;
};
template <> struct ScaledCodes<Type::u4> {
    static constexpr Type kType = Type::u4;
    static constexpr int kBits = 4, kLargest = 8, kDigits = 3;
    static constexpr bool kSignedScale = true;
};
template <> struct ScaledCodes<Type::u2> {
    static constexpr Type kType = Type::u2;
    static constexpr int kBits = 2, kLargest = 2, kDigits = 1;
    static constexpr bool kSignedScale = true;
};

/// Bytes of a block's scale.
constexpr std::size_t scale_bytes(Quantization how, bool wide) {
    if (how.scale == Scale::floating) return wide ? 8 : 4;
    const bool has_sign = how.type == Type::u4 || how.type == Type::u2;
    return wide || has_sign ? 2 : 1;
}

/// The element of largest magnitude in a block.
template <class C> struct Largest {
    typename ScaleFormat<C>::Bits bits;  ///< bits of the magnitude; if at least those of infinity, an element is not finite
    bool positive;                       ///< an element of this magnitude is positive; known with kSignedScale only
};

/// The power of two with this exponent in its bits.
template <class C> C power(int exponent) {
    using Format = ScaleFormat<C>;
    return std::bit_cast<C>(static_cast<typename Format::Bits>(exponent) << Format::kMantissa);
}

/// Writes the scale of a block whose element of largest magnitude is `largest`. Returns the factor that converts elements to
/// codes.
template <class Codes, class C> C put_power(void *scale, Largest<C> largest) {
    using Format = ScaleFormat<C>;
    constexpr int kShift = Codes::kDigits;
    int exponent = Format::kTop + 1;
    if (largest.bits < Format::kInfinity) {
        // A magnitude that rounds beyond the largest code carries into the exponent.
        const auto carried = largest.bits + (typename Format::Bits{1} << (Format::kMantissa - 1 - kShift));
        exponent = std::clamp(static_cast<int>(carried >> Format::kMantissa), kShift + 1, Format::kTop);
    }
    const auto wire = static_cast<typename Format::Power>(exponent);
    std::memcpy(scale, &wire, sizeof wire);
    return power<C>(Format::kTop + kShift - exponent);
}

/// As put_power, with the sign: the upper 16 bits of the scale.
template <class Codes, class C> C put_signed_power(void *scale, Largest<C> largest) {
    using Format = ScaleFormat<C>;
    using Bits = typename Format::Bits;
    constexpr int kCut = static_cast<int>(8 * sizeof(C)) - 16;
    Bits wire_bits = 0;
    C inverse = 0;
    if (largest.bits >= Format::kInfinity) {
        wire_bits = std::bit_cast<Bits>(GridLimits<C>::kNan);
    } else if (largest.bits != 0) {
        // Carries into the exponent from the first magnitude that rounds beyond the largest code.
        constexpr Bits kCarry = (Bits{1} << Format::kMantissa) - 1 - (Bits{1} << (Format::kMantissa - 1 - Codes::kDigits));
        const int exponent = std::max(static_cast<int>((largest.bits + kCarry) >> Format::kMantissa) - Codes::kDigits, 1);
        wire_bits = static_cast<Bits>(exponent) << Format::kMantissa | static_cast<Bits>(largest.positive) << (8 * sizeof(C) - 1);
        inverse = 1 / std::bit_cast<C>(wire_bits);
    }
    const auto wire = static_cast<std::uint16_t>(wire_bits >> kCut);
    std::memcpy(scale, &wire, sizeof wire);
    return inverse;
}

template <class Codes, class C> C put_float(void *scale, Largest<C> largest) {
    using Format = ScaleFormat<C>;
    const C levels = Codes::kLargest;
    const C magnitude = std::bit_cast<C>(largest.bits);
    C wire = magnitude / levels, inverse = 0;
    if (largest.bits >= Format::kInfinity) {
        wire = GridLimits<C>::kNan;
    } else if (largest.bits != 0 && wire < std::numeric_limits<C>::min()) {
        wire = std::numeric_limits<C>::min();
        inverse = power<C>(Format::kTop - 1);
    } else if (largest.bits != 0) {
        inverse = levels / magnitude;
    }
    if (Codes::kSignedScale && largest.positive && inverse != 0) {
        wire = -wire;
        inverse = -inverse;
    }
    std::memcpy(scale, &wire, sizeof wire);
    return inverse;
}

template <class Codes, class C> C put_scale(Scale how, void *scale, Largest<C> largest) {
    if (how == Scale::floating) return put_float<Codes, C>(scale, largest);
    if constexpr (Codes::kSignedScale)
        return put_signed_power<Codes, C>(scale, largest);
    else
        return put_power<Codes, C>(scale, largest);
}

/// The scale of a block. Not finite: every value of the block is NaN.
template <class Codes, class C> C get_scale(Scale how, const void *scale) {
    using Format = ScaleFormat<C>;
    if (how == Scale::floating) {
        C wire;
        std::memcpy(&wire, scale, sizeof wire);
        return wire;
    }
    if constexpr (Codes::kSignedScale) {
        std::uint16_t wire;
        std::memcpy(&wire, scale, sizeof wire);
        return std::bit_cast<C>(static_cast<typename Format::Bits>(wire) << (8 * sizeof(C) - 16));
    } else {
        typename Format::Power wire;
        std::memcpy(&wire, scale, sizeof wire);
        if (wire > Format::kTop) return GridLimits<C>::kNan;
        return power<C>(std::max<int>(wire, Codes::kDigits + 1) - Codes::kDigits);
    }
}

}  // namespace pccl::kernel
