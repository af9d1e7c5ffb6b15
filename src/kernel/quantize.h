// Packing of floating-point elements into 4-, 8- or 16-bit integers, per block of elements with its own range or scale in band.
//
// Values are quantized from, and dequantized to, the *compute type* C: f64 for f64 operands, f32 for all others. The packed bytes
// and the dequantized values are the same on every instruction set. A block that holds a NaN or an infinity comes out as all NaN.
// Signs of zeros are not kept. Rounding is to nearest even, and the caller's floating-point mode does not matter (base/float_mode.h).
// `how.algorithm` is not `none` in any of these calls. Packed bytes come from the network: whatever
// they are, dequantizing them is defined and gives finite values or the quiet NaN. Pure: no state, no allocation, any thread.
//
// Layout of min_max and zero_point_scale. Blocks of kQuantBlock elements follow each other without padding, the last one with as many
// elements as are left:
//
//     C first; C second; codes of the block's elements         (all little endian)
//
// A code is an integer of how.type; u is the code counted from the type's lowest value (code, code + 128 or code + 32768), and L
// the number of steps (255 or 65535). All arithmetic below is IEEE arithmetic in C, each operation rounded to nearest even.
//
//   min_max: first = the block's minimum, second = its maximum.
//
//       base  = first * up
//       step  = (second * up - base) / L
//       value = (u * step + base) / up
//
//     `up` keeps the range from overflowing and the step from vanishing. With m = max(|first|, |second|):
//       C = f32:  up = 1/4 if m >= 2^126,   2^64  if m < 2^-60,   else 1
//       C = f64:  up = 1/4 if m >= 2^1022,  2^200 if m < 2^-900,  else 1
//
//   zero_point_scale: first = scale, second = zero point z, an integer that need not be a code (to 2^22 for f32, 2^50 for f64).
//
//       value = (u - z) * scale
//
//     0.0 in a block comes back as exactly 0.0. A constant block has scale = the constant, z = -1 and u = 0.
//
// Where first or second is not finite, every value is the quiet NaN. The sender rounds each element to the nearest u; the error is at
// most half a step, and the roundings above.
//
// Layout of block_scale. Units of 512 elements follow each other without padding, the last one with as many elements as are left; in a
// unit, blocks have how.block elements, the last one as many as are left: first the scales of its blocks, then the codes of its
// elements. Codes are signed: a byte each (i8), or two in a byte (i4), the first in its low half; the
// upper half of a last odd one is 0. With m the block's largest magnitude and L = 127 or 7:
//
//       value = code * scale
//
//   floating: the scale is a C: m / L, but at least C's smallest normal number, or 0 for a block of zeros.
//   power_of_two: the scale is 2^(E - 133) (i8) or 2^(E - 129) (i4) for C = f32, E a byte; 2^(E - 1029) or 2^(E - 1025) for C = f64, E
//     two bytes. E is the least for which all elements round to codes of at most L, from 7 (i8) or 3 (i4; a smaller one is read as
//     this) to 254 or 2046. A larger one says NaN.
//
// Where the floating scale is not finite, or E says NaN, every value of the block is the quiet NaN. The error is at most half of the
// scale; for elements near C's largest number, that the largest scale's codes do not reach, one scale.
//
// With all of them, a value beyond C's largest finite number is that number.
#pragma once

#include "kernel/types.h"

namespace pccl::kernel {

/// f64 for f64, else f32.
constexpr Type compute_type(Type operand) { return operand == Type::f64 ? Type::f64 : Type::f32; }

/// Bytes that `count` elements take when packed: data and ranges. No overflow for any count below 2^58.
std::size_t packed_bytes(Quantization how, Type operand, std::size_t count);

/// Packs `count` elements of the compute type. `out` has packed_bytes() bytes, any alignment.
void quantize(Quantization how, Type operand, void *out, const void *in, std::size_t count);

/// What quantization took from earlier sums and is added to this one, and where to write what it takes now: as many elements of the
/// compute type as the operands they go with. Null: no feedback. What was added to a value that comes out as NaN is gone, not kept.
struct Feedback {
    const void *residual = nullptr;
    void *lost = nullptr;

    explicit operator bool() const { return residual != nullptr; }
};

/// Packs straight from elements of the operand type (f16, bf16, f32, f64).
void quantize_input(Quantization how, Type operand, void *out, const void *in, std::size_t count, Feedback feedback = {});

/// Unpacks into the compute type.
void dequantize(Quantization how, Type operand, void *out, const void *packed, std::size_t count);

/// out[i] = unpacked[i] op own[i]: out in the compute type, own in the operand type. avg adds. `out` may equal `own` if these
/// types are the same. NaN and zeros as in reduce.h.
void dequantize_combine(Quantization how, Type operand, Op op, void *out, const void *packed, const void *own, std::size_t count);

/// Unpacks into the operand type (what every peer stores as its result).
void dequantize_output(Quantization how, Type operand, void *out, const void *packed, std::size_t count);

/// value /= divisor for avg, in place, compute type. Nothing for other operators. `divisor` is at least 1.
void scale_average(Type operand, Op op, void *values, std::size_t count, std::uint32_t divisor);

/// packed = packed(unpacked op own), in place: a partial result on its way. The steps are taken in pieces that stay in the first-level
/// cache, as they are in the next one.
void requantize(Quantization how, Type operand, Op op, void *packed, const void *own, std::size_t count, Feedback feedback = {});

/// The last step at a chunk's owner: as requantize, then scale_average before it is packed; `out`, of the operand type, gets what the
/// others will unpack.
void requantize_final(Quantization how, Type operand, Op op, void *packed, const void *own, void *out, std::size_t count,
                      std::uint32_t divisor, Feedback feedback = {});

/// The owner's part of a one-hop all-reduce: combines `sum`, of the compute type and the others' contributions, with its own, which is
/// packed once as theirs were; then as requantize_final. `packed` gets what the others will unpack. At most kMaxFinish elements.
inline constexpr std::size_t kMaxFinish = 2048;
void finish_one_hop(Quantization how, Type operand, Op op, void *packed, void *sum, const void *own, void *out, std::size_t count,
                    std::uint32_t divisor, Feedback feedback = {});

}  // namespace pccl::kernel
