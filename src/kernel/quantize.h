// Packing of floating-point elements into 8- or 16-bit integers, per block of kQuantBlock elements with its own range in band.
//
// Values are quantized from, and dequantized to, the *compute type*: f64 for f64 operands, f32 for all others. The packed bytes and
// the dequantized values are the same on every instruction set. A block that holds a NaN or an infinity comes out as all NaN.
#pragma once

#include "kernel/types.h"

namespace pccl::kernel {

/// f64 for f64, else f32.
constexpr Type compute_type(Type operand) { return operand == Type::f64 ? Type::f64 : Type::f32; }

/// Bytes that `count` elements take when packed: data and ranges. No overflow for any count below 2^58.
std::size_t packed_bytes(Quantization how, Type operand, std::size_t count);

/// Packs `count` elements of the compute type. `out` has packed_bytes() bytes, any alignment.
void quantize(Quantization how, Type operand, void *out, const void *in, std::size_t count);

/// Packs straight from elements of the operand type (f16, bf16, f32, f64).
void quantize_input(Quantization how, Type operand, void *out, const void *in, std::size_t count);

/// Unpacks into the compute type.
void dequantize(Quantization how, Type operand, void *out, const void *packed, std::size_t count);

/// out[i] = unpacked[i] op own[i]: out in the compute type, own in the operand type. avg adds.
void dequantize_combine(Quantization how, Type operand, Op op, void *out, const void *packed, const void *own, std::size_t count);

/// Unpacks into the operand type (what every peer stores as its result).
void dequantize_output(Quantization how, Type operand, void *out, const void *packed, std::size_t count);

/// value /= divisor for avg, in place, compute type. Nothing for other operators.
void scale_average(Type operand, Op op, void *values, std::size_t count, std::uint32_t divisor);

}  // namespace pccl::kernel
