// Element types, operators and quantization as the kernels and the wire know them. Values equal those of the C API.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pccl::kernel {

/// i4 is of quantized elements alone, two in a byte.
enum class Type : std::uint8_t { u8 = 0, i8, i16, u16, u32, i32, u64, i64, f16, bf16, f32, f64, i4 };
inline constexpr int kTypes = 12;        ///< of operands
inline constexpr int kPackedTypes = 13;  ///< and of quantized elements

enum class Op : std::uint8_t { sum = 0, avg, prod, max, min };
inline constexpr int kOps = 5;

enum class Quant : std::uint8_t { none = 0, min_max, zero_point_scale, block_scale };
inline constexpr int kQuants = 4;

/// How block_scale writes the scale of a block.
enum class Scale : std::uint8_t { floating = 0, power_of_two };
inline constexpr int kScales = 2;

/// Elements that share one range on the wire with min_max and zero_point_scale. Chunk boundaries are multiples of it.
inline constexpr std::size_t kQuantBlock = 256;

/// Elements that share one scale with block_scale: a power of two between these.
inline constexpr std::size_t kMinScaleBlock = 32;
inline constexpr std::size_t kMaxScaleBlock = 512;
inline constexpr std::size_t kDefaultScaleBlock = 32;
constexpr bool is_scale_block(std::size_t block) {
    return block >= kMinScaleBlock && block <= kMaxScaleBlock && (block & (block - 1)) == 0;
}

constexpr std::size_t size_of(Type type) {
    switch (type) {
    case Type::u8:
    case Type::i8: return 1;
    case Type::i16:
    case Type::u16:
    case Type::f16:
    case Type::bf16: return 2;
    case Type::u32:
    case Type::i32:
    case Type::f32: return 4;
    case Type::u64:
    case Type::i64:
    case Type::f64: return 8;
    case Type::i4: break;  // half a byte
    }
    return 0;
}

constexpr bool is_float(Type type) { return type == Type::f16 || type == Type::bf16 || type == Type::f32 || type == Type::f64; }

/// The type in which partial results of `type` are kept and travel: 16-bit floats accumulate in float32, so that neither their
/// range nor their precision limits a sum. Maxima and minima need no wider type.
constexpr Type accumulator(Type type, Op op) {
    const bool half = type == Type::f16 || type == Type::bf16;
    return half && op != Op::max && op != Op::min ? Type::f32 : type;
}

/// How contributions and partial results are packed. `algorithm == none`: not at all.
struct Quantization {
    Quant algorithm = Quant::none;
    Type type = Type::u8;      ///< u8, i8, u16 or i16; i8 or i4 with block_scale
    std::uint16_t block = 0;   ///< with block_scale: elements of a block, is_scale_block(). Else 0
    Scale scale{};             ///< with block_scale

    friend bool operator==(const Quantization &, const Quantization &) = default;
};

constexpr bool can_quantize(Quant algorithm, Type from, Type to) {
    if (algorithm == Quant::block_scale) return is_float(from) && (to == Type::i8 || to == Type::i4);
    return is_float(from) && (to == Type::u8 || to == Type::i8 || to == Type::u16 || to == Type::i16);
}

}  // namespace pccl::kernel
