// An independent implementation of the kernels' arithmetic in plain C++, one element at a time. Halves use exact doubles and
// ldexp, and integers use 128-bit integers.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "op/quantization.h"

namespace pccl::kernel::reference {

__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 Uint128;

struct HalfFormat {
    int mantissa_bits;
    int smallest_exponent;  ///< exponent of the unit of a subnormal
    std::uint16_t infinity;
    std::uint16_t quiet;
};
inline constexpr HalfFormat kF16{10, -24, 0x7C00, 0x7E00};
inline constexpr HalfFormat kBf16{7, -133, 0x7F80, 0x7FC0};
inline const HalfFormat &format_of(Type type) { return type == Type::f16 ? kF16 : kBf16; }

/// Exact, except for NaN.
inline double decode(const HalfFormat &f, std::uint16_t bits) {
    const double sign = bits & 0x8000 ? -1 : 1;
    const int magnitude = bits & 0x7FFF;
    if (magnitude > f.infinity) return std::numeric_limits<double>::quiet_NaN();
    if (magnitude == f.infinity) return sign * std::numeric_limits<double>::infinity();
    const int exponent = magnitude >> f.mantissa_bits;
    const int mantissa = magnitude & ((1 << f.mantissa_bits) - 1);
    if (exponent == 0) return sign * std::ldexp(mantissa, f.smallest_exponent);
    return sign * std::ldexp(mantissa + (1 << f.mantissa_bits), exponent - 1 + f.smallest_exponent);
}

/// Round to nearest even; every NaN is the quiet one.
inline std::uint16_t encode(const HalfFormat &f, double value) {
    if (std::isnan(value)) return f.quiet;
    const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    value = std::fabs(value);
    if (std::isinf(value)) return sign | f.infinity;
    const int unit = value == 0 ? f.smallest_exponent : std::max(std::ilogb(value) - f.mantissa_bits, f.smallest_exponent);
    const double units = std::nearbyint(std::ldexp(value, -unit));
    // Counts units of the binade from the smallest number, so that a carry of the mantissa increments the exponent.
    const double bits = units + std::ldexp(unit - f.smallest_exponent, f.mantissa_bits);
    return sign | (bits >= f.infinity ? f.infinity : static_cast<std::uint16_t>(bits));
}

inline float canonical(float v) { return std::isnan(v) ? std::bit_cast<float>(0x7FC00000u) : v; }
inline double canonical(double v) { return std::isnan(v) ? std::bit_cast<double>(std::uint64_t{0x7FF8} << 48) : v; }

template <class F> F combine_floats(Op op, F a, F b) {
    volatile F result = 0;
    switch (op) {
    case Op::sum:
    case Op::avg: result = a + b; break;
    case Op::prod: result = a * b; break;
    case Op::max: result = std::isnan(a) || std::isnan(b) ? a + b : (a > b || (a == b && !std::signbit(a))) ? a : b; break;
    case Op::min: result = std::isnan(a) || std::isnan(b) ? a + b : (a < b || (a == b && std::signbit(a))) ? a : b; break;
    }
    return canonical(F{result});
}

template <class T> T combine_integers(Op op, T a, T b) {
    switch (op) {
    case Op::sum:
    case Op::avg: return static_cast<T>(Int128{a} + b);
    case Op::prod: return static_cast<T>(static_cast<Uint128>(Int128{a}) * static_cast<Uint128>(Int128{b}));
    case Op::max: return a > b ? a : b;
    case Op::min: return a < b ? a : b;
    }
    return 0;
}

template <class T> T read(const void *from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class T> void write(void *to, T value) { std::memcpy(to, &value, sizeof value); }

/// A float operand of any of the 16- and 32-bit types.
inline float read_float(Type type, const void *from) {
    if (type == Type::f32) return read<float>(from);
    return static_cast<float>(decode(format_of(type), read<std::uint16_t>(from)));
}

inline void combine(Op op, Type type, Type out_type, void *out, Type a_type, const void *a, Type b_type, const void *b) {
    switch (type) {
    case Type::u8: return write(out, combine_integers(op, read<std::uint8_t>(a), read<std::uint8_t>(b)));
    case Type::i8: return write(out, combine_integers(op, read<std::int8_t>(a), read<std::int8_t>(b)));
    case Type::i16: return write(out, combine_integers(op, read<std::int16_t>(a), read<std::int16_t>(b)));
    case Type::u16: return write(out, combine_integers(op, read<std::uint16_t>(a), read<std::uint16_t>(b)));
    case Type::u32: return write(out, combine_integers(op, read<std::uint32_t>(a), read<std::uint32_t>(b)));
    case Type::i32: return write(out, combine_integers(op, read<std::int32_t>(a), read<std::int32_t>(b)));
    case Type::u64: return write(out, combine_integers(op, read<std::uint64_t>(a), read<std::uint64_t>(b)));
    case Type::i64: return write(out, combine_integers(op, read<std::int64_t>(a), read<std::int64_t>(b)));
    case Type::f64: return write(out, combine_floats(op, read<double>(a), read<double>(b)));
    default: break;
    }
    const float result = combine_floats(op, read_float(a_type, a), read_float(b_type, b));
    out_type == Type::f32 ? write(out, result) : write(out, encode(format_of(out_type), result));
}

template <class T> void average_integer(void *out, const void *in, std::uint32_t divisor) {
    write(out, static_cast<T>(Int128{read<T>(in)} / Int128{divisor}));
}

/// The division of avg, and then the narrowing.
inline void average(Type type, void *out, const void *in, std::uint32_t divisor) {
    switch (type) {
    case Type::u8: return average_integer<std::uint8_t>(out, in, divisor);
    case Type::i8: return average_integer<std::int8_t>(out, in, divisor);
    case Type::i16: return average_integer<std::int16_t>(out, in, divisor);
    case Type::u16: return average_integer<std::uint16_t>(out, in, divisor);
    case Type::u32: return average_integer<std::uint32_t>(out, in, divisor);
    case Type::i32: return average_integer<std::int32_t>(out, in, divisor);
    case Type::u64: return average_integer<std::uint64_t>(out, in, divisor);
    case Type::i64: return average_integer<std::int64_t>(out, in, divisor);
    case Type::f64: return write(out, canonical(read<double>(in) / static_cast<double>(divisor)));
    default: break;
    }
    const float result = canonical(read<float>(in) / static_cast<float>(divisor));
    type == Type::f32 ? write(out, result) : write(out, encode(format_of(type), result));
}

/// `count` elements of `type`: bits at random, and for floats many of moderate size, zeros, infinities, NaN and subnormals.
inline std::vector<std::uint8_t> elements(Type type, std::size_t count, std::mt19937_64 &random) {
    const std::size_t size = size_of(type);
    std::vector<std::uint8_t> bytes(count * size);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t bits = random();
        const auto kind = random() % 16;
        if (is_float(type) && kind < 10) {
            const double moderate = std::ldexp(static_cast<double>(static_cast<std::int64_t>(bits)), -60);
            if (type == Type::f64)
                bits = std::bit_cast<std::uint64_t>(moderate);
            else if (type == Type::f32)
                bits = std::bit_cast<std::uint32_t>(static_cast<float>(moderate));
            else
                bits = encode(format_of(type), moderate);
        } else if (is_float(type) && kind < 13) {  // the exponent all zeros or all ones, the mantissa 0 or 1
            const int digits = static_cast<int>(8 * size);
            const int mantissa = type == Type::f64 ? 52 : type == Type::f32 ? 23 : format_of(type).mantissa_bits;
            const std::uint64_t exponent = kind == 10 ? (std::uint64_t{1} << (digits - 1 - mantissa)) - 1 : 0;
            bits = (bits & 1) << (digits - 1) | exponent << mantissa | (bits >> 1 & bits >> 2 & 1);
        }
        std::memcpy(bytes.data() + i * size, &bits, size);
    }
    return bytes;
}

}  // namespace pccl::kernel::reference
