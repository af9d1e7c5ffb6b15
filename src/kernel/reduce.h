// Element-wise combination of buffers. The result never depends on the instruction set: every target computes the same IEEE
// operations in the same order, without contraction, and every NaN that comes out of an operation or a narrowing is the one
// positive quiet NaN without payload. The caller's floating-point mode does not matter (base/float_mode.h). Any alignment.
// Pure: no state, no allocation, any thread.
#pragma once

#include "kernel/vocabulary.h"

namespace pccl::kernel {

/// out[i] = a[i] op b[i]. `out` and `a` have the accumulator type of (type, op); `b` has `type` if `b_is_input`, else the
/// accumulator type, and so has `a` if `a_is_input`. avg adds. `out` may equal `a` or `b` if their types have the same size.
/// Otherwise they must not overlap. Integers wrap. If an operand is NaN, max and min are a (quiet) NaN. For zeros of both
/// signs, max is +0 and min is -0.
struct Combine {
    Type type;
    Op op;
    bool a_is_input;
    bool b_is_input;
};
void combine(const Combine &how, void *out, const void *a, const void *b, std::size_t count);

/// The last step at a chunk's owner: divides by `divisor` if op is avg (integers truncate toward zero) and narrows from the
/// accumulator type to `type` (round to nearest even). `out` may equal `in` (narrowing in place is allowed). `divisor` is at
/// least 1.
void finish(Type type, Op op, void *out, const void *in, std::size_t count, std::uint32_t divisor);

/// out (accumulator type) = in (type), widened. Copies if the two types are the same.
void widen(Type type, Op op, void *out, const void *in, std::size_t count);

/// Name of the instruction set in use, e.g. "AVX2".
const char *target_name();

}  // namespace pccl::kernel
