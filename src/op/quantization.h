// Quantization formats: one table row per format. The functions of each format are in kernel/codec.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "op/element.h"

namespace pccl::op {

enum class Quant : std::uint8_t { none = 0, min_max, zero_point_scale, block_scale };
inline constexpr int kQuants = 4;

/// The format of a block's scale in block_scale.
enum class Scale : std::uint8_t { floating = 0, power_of_two };
inline constexpr int kScales = 2;

/// Elements that share one range on the wire with min_max and zero_point_scale. Chunk boundaries are multiples of it.
inline constexpr std::size_t kQuantBlock = 256;

/// Elements that share one scale with block_scale: a power of two between these limits.
inline constexpr std::size_t kMinScaleBlock = 32;
inline constexpr std::size_t kMaxScaleBlock = 512;
inline constexpr std::size_t kDefaultScaleBlock = 32;
constexpr bool is_scale_block(std::size_t block) {
    return block >= kMinScaleBlock && block <= kMaxScaleBlock && (block & (block - 1)) == 0;
}

/// How contributions and partial results are packed. With `Quant::none` they are not.
struct Quantization {
    Quant algorithm = Quant::none;
    Type type = Type::u8;     ///< one of the algorithm's types (kQuantTable)
    std::uint16_t block = 0;  ///< elements of a block with block_scale, see is_scale_block(); else 0
    Scale scale{};            ///< used with block_scale only

    friend bool operator==(const Quantization &, const Quantization &) = default;
};

struct QuantRow {
    const char *name;
    TypeSet types;               ///< quantized types that the algorithm packs to
    TypeSet error_grows_by_hop;  ///< types so coarse that rounding a sum at every hop of a ring costs too much
};
/// One row for each algorithm, in the order of the values.
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

/// Returns true if the result is closer when each contribution is rounded once than when a sum is rounded at every hop of a ring.
constexpr bool error_grows_by_hop(Quantization how) {
    return (kQuantTable[static_cast<int>(how.algorithm)].error_grows_by_hop & set_of(how.type)) != 0;
}

}  // namespace pccl::op
