// Quant::block_scale, for quantize.cc, which has the interface: the layout and its rules are in quantize.h.
#pragma once

#include "kernel/types.h"

namespace pccl::kernel {

std::size_t block_scale_bytes(Quantization how, Type operand, std::size_t count);

/// `from` is the type of `in`: an operand type or f32 or f64.
void block_scale_pack(Quantization how, Type from, void *out, const void *in, std::size_t count);
/// `to` likewise.
void block_scale_unpack(Quantization how, Type to, void *out, const void *packed, std::size_t count);
void block_scale_unpack_combine(Quantization how, Type operand, Op op, void *out, const void *packed, const void *own, std::size_t count);

}  // namespace pccl::kernel
