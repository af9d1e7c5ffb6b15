// The functions of each quantization algorithm. The formats are those of quantize.h; which types an algorithm packs to is in
// op/quantization.h.
#pragma once

#include "kernel/vocabulary.h"

namespace pccl::kernel {

/// One algorithm. A new algorithm needs a row in codec_of(), a value of Quant and a row in kQuantTable.
struct Codec {
    /// Bytes that `count` elements take when packed.
    std::size_t (*bytes)(Quantization how, Type operand, std::size_t count);
    /// `from` is the type of `in`: an operand type, or the compute type.
    void (*pack)(Quantization how, Type from, void *out, const void *in, std::size_t count);
    /// `to` is the type of `out`: an operand type, or the compute type.
    void (*unpack)(Quantization how, Type to, void *out, const void *packed, std::size_t count);
    /// out[i] = unpacked[i] op own[i]: `out` in the compute type, `own` of type `operand`.
    void (*unpack_combine)(Quantization how, Type operand, Op op, void *out, const void *packed, const void *own,
                           std::size_t count);
};

extern const Codec kRangeCodec;       ///< min_max and zero_point_scale (quantize.cc)
extern const Codec kBlockScaleCodec;  ///< block_scale (block_scale.cc)

/// Clears the bits of the last byte that hold no code. `codes` has code_bytes(type, count) bytes.
inline void clear_unused(Type type, std::uint8_t *codes, std::size_t count) {
    const std::size_t used = count % 8 * bits_of(type) % 8;
    if (used != 0) codes[code_bytes(type, count) - 1] &= static_cast<std::uint8_t>((1u << used) - 1);
}

}  // namespace pccl::kernel
