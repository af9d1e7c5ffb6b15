// Element types, operators and quantization as the kernels and the wire know them. Values equal those of the C API.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pccl::kernel {

/// Operands have the types before i4. The types from i4 on exist only as quantized types: several elements share a byte.
enum class Type : std::uint8_t { u8 = 0, i8, i16, u16, u32, i32, u64, i64, f16, bf16, f32, f64, i4, u4, u2 };
inline constexpr int kTypes = 12;        ///< operand types
inline constexpr int kPackedTypes = 15;  ///< operand types and quantized types

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

struct TypeRow {
    const char *name;
    std::uint8_t bits;
};
/// One row for each type, in the order of the values.
inline constexpr TypeRow kTypeTable[kPackedTypes] = {{"uint8", 8},    {"int8", 8},      {"int16", 16},  {"uint16", 16},
                                                     {"uint32", 32},  {"int32", 32},    {"uint64", 64}, {"int64", 64},
                                                     {"float16", 16}, {"bfloat16", 16}, {"float", 32},  {"double", 64},
                                                     {"int4", 4},     {"uint4", 4},     {"uint2", 2}};

constexpr const char *name_of(Type type) { return kTypeTable[static_cast<int>(type)].name; }
constexpr std::size_t bits_of(Type type) { return kTypeTable[static_cast<int>(type)].bits; }
/// Bytes of one element; 0 for types whose elements share a byte.
constexpr std::size_t size_of(Type type) { return bits_of(type) / 8; }
/// Bytes of `count` codes of a quantized type. No overflow for any count below 2^58.
constexpr std::size_t code_bytes(Type type, std::size_t count) {
    const std::size_t bits = bits_of(type);
    return count / 8 * bits + (count % 8 * bits + 7) / 8;
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
    Type type = Type::u8;     ///< one of the algorithm's types (kQuantTable)
    std::uint16_t block = 0;  ///< with block_scale: elements of a block, is_scale_block(). Else 0
    Scale scale{};            ///< with block_scale

    friend bool operator==(const Quantization &, const Quantization &) = default;
};

/// A set of types: bit t is set for the type with value t.
using TypeSet = std::uint32_t;
template <class... Types> constexpr TypeSet set_of(Types... types) {
    return ((TypeSet{1} << static_cast<int>(types)) | ... | 0u);
}

struct QuantRow {
    const char *name;
    TypeSet types;               ///< quantized types that the algorithm packs to
    TypeSet error_grows_by_hop;  ///< types so coarse that rounding a sum at every hop of a ring costs too much
};
/// One row for each algorithm, in the order of the values. The functions of each are in kernel/codec.h.
inline constexpr QuantRow kQuantTable[kQuants] = {
    {"none", 0, 0},
    {"min-max", set_of(Type::u8, Type::i8, Type::u16, Type::i16, Type::u4, Type::u2), set_of(Type::u4, Type::u2)},
    {"zero-point-scale", set_of(Type::u8, Type::i8, Type::u16, Type::i16, Type::u4, Type::u2), set_of(Type::u4, Type::u2)},
    {"block-scale", set_of(Type::i8, Type::i4, Type::u4, Type::u2), ~TypeSet{0}},
};

constexpr const char *name_of(Quant algorithm) { return kQuantTable[static_cast<int>(algorithm)].name; }

constexpr bool can_quantize(Quant algorithm, Type from, Type to) {
    return is_float(from) && (kQuantTable[static_cast<int>(algorithm)].types & set_of(to)) != 0;
}

/// True if the result is closer when every contribution is rounded once than when a sum is rounded at every hop of a ring.
constexpr bool error_grows_by_hop(Quantization how) {
    return (kQuantTable[static_cast<int>(how.algorithm)].error_grows_by_hop & set_of(how.type)) != 0;
}

}  // namespace pccl::kernel
