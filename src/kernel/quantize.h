// Packs floating-point elements into integers of 2 to 16 bits. Each block of elements is preceded by its own range or scale.
//
// Values are quantized from, and dequantized to, the *compute type* C: f64 for f64 operands, f32 for all others. The packed
// bytes and the dequantized values are the same on every instruction set. A block that contains a NaN or an infinity becomes
// all NaN. Signs of zeros are not kept. Rounding is to nearest even, and the caller's floating-point mode does not matter
// (base/float_mode.h). `how.algorithm` is not `none` in any of these calls. Packed bytes arrive from the network: dequantizing
// any bytes is defined and gives finite values or the quiet NaN. Pure: no state, no allocation, any thread.
//
// Layout of min_max and zero_point_scale. Blocks of kQuantBlock elements follow each other without padding, the last one with as
// many elements as are left:
//
//     C first; C second; codes of the block's elements         (all little endian)
//
// A code is an integer of how.type; u is the code counted from the type's lowest value (code, code + 128 or code + 32768), and L
// the number of steps (3, 15, 255 or 65535). Two codes of u4 or four codes of u2 share a byte, the first in its lowest bits; the
// sender sets the bits of the last byte that hold no code to 0, and the receiver ignores them. All arithmetic below is IEEE
// arithmetic in C, each operation rounded to nearest even.
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
//     0.0 in a block is returned as exactly 0.0. A constant block has scale = the constant, z = -1 and u = 0.
//
// If first or second is not finite, every value is the quiet NaN. The sender rounds each element to the nearest u; the error
// is at most half a step, and the roundings above. The scale of zero_point_scale is (maximum - minimum) / L for u4 and u2, and
// (maximum - minimum) / (L - 1) for the other types.
//
// Layout of block_scale. Units of 512 elements follow each other without padding, the last one with as many elements as are left;
// in a unit, blocks have how.block elements, the last one as many as are left: first the scales of its blocks, then the codes of
// its elements. There are two kinds of codes.
//
// i8 and i4 have symmetric codes and a positive scale. Codes are signed: a byte each (i8), or two in a byte (i4), the first in
// its low half; the upper half of a last odd one is 0. With m the block's largest magnitude and L = 127 or 7:
//
//       value = code * scale
//
//   floating: the scale is a C: m / L, but at least C's smallest normal number, or 0 for a block of zeros.
//   power_of_two: the scale is 2^(E - 133) (i8) or 2^(E - 129) (i4) for C = f32, E a byte; 2^(E - 1029) or 2^(E - 1025) for
//     C = f64, E two bytes. E is the least for which all elements round to codes of at most L, from 7 (i8) or 3 (i4; a smaller
//     one is read as this) to 254 or 2046. A larger one means NaN.
//
// The error is at most half of the scale. For elements near C's largest number, which the codes of the largest scale do not
// reach, it is at most one scale.
//
// u4 and u2 have one more negative code than positive codes, and a scale with a sign: the sign that gives the block's element of
// largest magnitude the lowest code. Codes u are unsigned; two (u4) or four (u2) share a byte, as above. With x the element of
// largest magnitude, the positive one where two are as large, and H = 8 or 2:
//
//       value = (u - H) * scale          (+0 where u = H)
//
//   floating: the scale is a C: -x / H, its magnitude at least C's smallest normal number, or 0 for a block of zeros.
//   power_of_two: the scale is the upper 16 bits of a C whose other bits are 0. Its magnitude is the least power of two, not less
//     than C's smallest normal number, for which x rounds to -H or above; its sign is that of -x. It is 0 for a block of zeros.
//
// The error is at most half of the scale, and one scale for elements whose sign is not that of x and whose magnitude is more than
// H - 1/2 scales. With the floating scale, x is returned unchanged unless x / H is smaller than the smallest normal number.
//
// The reason for this format is its relative error. On standard normal data it is .086 for u4, compared with .097 for i4, which
// has as many bits, and .36 for u2. Codes without a zero, (u - H + 1/2) * scale, have .089 and .36 on normal data. On data with
// four fifths zeros they have .23 and .91, and this format has .06 and .27: codes without a zero turn each zero into half of
// the scale. Symmetric codes of 2 bits, -1 to 1, have .66.
//
// If a scale is not finite or E means NaN, every value of the block is the quiet NaN.
//
// With all algorithms, a value beyond C's largest finite number becomes that number.
#pragma once

#include "kernel/vocabulary.h"

namespace pccl::kernel {

/// f64 for f64, else f32.
constexpr Type compute_type(Type operand) { return operand == Type::f64 ? Type::f64 : Type::f32; }

/// Bytes that `count` elements take when packed: data and ranges. No overflow for any count below 2^58.
std::size_t packed_bytes(Quantization how, Type operand, std::size_t count);

/// Packs `count` elements of the compute type. `out` has packed_bytes() bytes, any alignment.
void quantize(Quantization how, Type operand, void *out, const void *in, std::size_t count);

/// The rounding errors of earlier sums, which are added to this sum and then replaced by the new errors: as many elements of the
/// compute type as the operands have. Null: no feedback. If the result of a value is NaN, its added error is discarded.
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

/// Unpacks into the operand type, in which every peer stores its result.
void dequantize_output(Quantization how, Type operand, void *out, const void *packed, std::size_t count);

/// value /= divisor for avg, in place, compute type. Other operators change nothing. `divisor` is at least 1.
void scale_average(Type operand, Op op, void *values, std::size_t count, std::uint32_t divisor);

/// packed = packed(unpacked op own), in place: a partial result in transit. This function and the next one run the steps in
/// pieces that stay in the first-level cache.
void requantize(Quantization how, Type operand, Op op, void *packed, const void *own, std::size_t count, Feedback feedback = {});

/// The last step at a chunk's owner: as requantize, with scale_average before packing. `out`, in the operand type, receives the
/// values that the other members will unpack.
void requantize_final(Quantization how, Type operand, Op op, void *packed, const void *own, void *out, std::size_t count,
                      std::uint32_t divisor, Feedback feedback = {});

/// The owner's part of a one-hop all-reduce. Combines `sum`, which holds the other contributions in the compute type, with the
/// owner's contribution, which is packed once as the others were. Then continues as requantize_final. `packed` receives the
/// bytes that the other members will unpack. At most kMaxFinish elements.
inline constexpr std::size_t kMaxFinish = 2048;
void finish_one_hop(Quantization how, Type operand, Op op, void *packed, void *sum, const void *own, void *out, std::size_t count,
                    std::uint32_t divisor, Feedback feedback = {});

}  // namespace pccl::kernel
