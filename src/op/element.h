// Element types and operators. Values equal those of the C API and of the wire.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pccl::op {

/// Operands have the types before i4. The types from i4 on exist only as quantized types: several elements share a byte.
enum class Type : std::uint8_t { u8 = 0, i8, i16, u16, u32, i32, u64, i64, f16, bf16, f32, f64, i4, u4, u2 };
inline constexpr int kTypes = 12;        ///< operand types
inline constexpr int kPackedTypes = 15;  ///< operand types and quantized types

enum class Op : std::uint8_t { sum = 0, avg, prod, max, min };
inline constexpr int kOps = 5;

struct TypeRow {
    const char *name;
    std::uint8_t bits;
};
/// One row for each type, in the order of the values.
inline constexpr TypeRow kTypeTable[kPackedTypes] = {{"uint8", 8},    {"int8", 8},      {"int16", 16},  {"uint16", 16},
                                                     {"uint32", 32},  {"int32", 32},    {"uint64", 64}, {"int64", 64},
                                                     {"float16", 16}, {"bfloat16", 16}, {"float", 32},  {"double", 64},
                                                     {"int4", 4},     {"uint4", 4},     {"uint2", 2}};

inline constexpr const char *kOpNames[kOps] = {"sum", "avg", "prod", "max", "min"};

constexpr const char *name_of(Type type) { return kTypeTable[static_cast<int>(type)].name; }
constexpr const char *name_of(Op op) { return kOpNames[static_cast<int>(op)]; }
constexpr std::size_t bits_of(Type type) { return kTypeTable[static_cast<int>(type)].bits; }
/// Returns the bytes of one element, or 0 for a type whose elements share a byte.
constexpr std::size_t size_of(Type type) { return bits_of(type) / 8; }
/// Returns the bytes of `count` codes of a quantized type. Does not overflow for counts below 2^58.
constexpr std::size_t code_bytes(Type type, std::size_t count) {
    const std::size_t bits = bits_of(type);
    return count / 8 * bits + (count % 8 * bits + 7) / 8;
}

constexpr bool is_float(Type type) { return type == Type::f16 || type == Type::bf16 || type == Type::f32 || type == Type::f64; }

/// Returns the type in which partial results of `type` are kept and sent. 16-bit floats accumulate in float32, so that neither
/// their range nor their precision limits a sum. Maxima and minima need no wider type.
constexpr Type accumulator(Type type, Op op) {
    const bool half = type == Type::f16 || type == Type::bf16;
    return half && op != Op::max && op != Op::min ? Type::f32 : type;
}

/// A set of types: bit t is set for the type with value t.
using TypeSet = std::uint32_t;
template <class... Types> constexpr TypeSet set_of(Types... types) {
    return ((TypeSet{1} << static_cast<int>(types)) | ... | 0u);
}

}  // namespace pccl::op
