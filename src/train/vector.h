// Arithmetic over whole buffers of float32, for outer steps.
//
// Guarantee: the same bits on every instruction set. Every operation is rounded separately (no contraction to fused
// multiply-add), elements do not mix, and sums are computed in double precision in an order that does not depend on the vector's
// width. The caller's floating-point mode does not matter (base/float_mode.h).
// Buffers have any alignment. An output may be the same buffer as an input; otherwise buffers must not overlap. No state, any
// thread.
#pragma once

#include <cstddef>

#include <pccl/pccl.h>

namespace pccl::train {

/// The size of a parameter's element in bytes; 0 if parameters cannot have the type.
std::size_t parameter_bytes(pcclDataType_t type);

/// out = the `count` elements of `from`, widened.
void load(pcclDataType_t type, const void *from, float *out, std::size_t count);
/// to = the `count` elements of `from`, rounded to nearest, ties to even.
void store(pcclDataType_t type, const float *from, void *to, std::size_t count);
/// out = start - end, where `start` is first rounded to the type.
void difference(pcclDataType_t type, const float *start, const void *end, float *out, std::size_t count);

void multiply(float *x, float by, std::size_t count);
void divide(float *x, float by, std::size_t count);

/// The outer steps of pccl/train.h: parameters `p`, momentum `v`, gradient `g`.
void sgd(float *p, const float *g, float rate, std::size_t count);
void heavy_ball(float *p, float *v, const float *g, float rate, float momentum, std::size_t count);
void nesterov(float *p, float *v, const float *g, float rate, float momentum, std::size_t count);
/// v = clip(momentum v + g / divisor), p -= rate v, where clip limits to [-bound, bound] (0: no limit).
/// Returns the sum of the squares of p's changes.
double clipped_heavy_ball(float *p, float *v, const float *g, float rate, float momentum, float divisor, float bound,
                          std::size_t count);

/// The sum of the squares of a - b.
double squared_distance(const float *a, const float *b, std::size_t count);

/// x = own x + (1 - own) p.
void mix(float *x, const float *p, float own, std::size_t count);
/// q = momentum q + d; x = p - rate (d + momentum q).
void overlay(float *x, float *q, const float *p, const float *d, float rate, float momentum, std::size_t count);

/// The first of `count` elements that is infinite or not a number; `count` if all are finite.
std::size_t first_not_finite(const float *x, std::size_t count);

/// The instruction set that is in use, as Highway names it.
const char *vector_target();

}  // namespace pccl::train
