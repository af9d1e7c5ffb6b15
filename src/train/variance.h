// Mean and variance of tensors, and sums of models in double precision, for the averages of gossip.
//
// Guarantee: the same result on every processor (a fixed order of additions in eight parallel sums, no contraction). The sum of
// k copies of a model is exact, so the average of identical models equals them bit for bit. The caller's floating-point mode
// does not matter (base/float_mode.h). No state, any thread.
#pragma once

#include <cstddef>

namespace pccl::train {

struct Moments {
    double mean = 0.0;
    double variance = 0.0;  ///< of the population: divided by the count
};

/// Not finite if an element is not.
Moments moments(const float *x, std::size_t count);
Moments moments(const double *x, std::size_t count);

/// sum += weight x.
void add(double *sum, const float *x, double weight, std::size_t count);
/// x = own_weight own + others x: the average of the model `own` and of other models. `x` is the weighted sum of the other
/// models.
void average(double *x, const float *own, double own_weight, double others, std::size_t count);
/// Gives `x` the variance `target` and keeps its mean. If its variance or `target` is 0, `x` is unchanged, because 0 / 0 is
/// undefined.
void rescale(double *x, double target, std::size_t count);

/// out = x * by, rounded to nearest.
void narrow(const double *x, double by, float *out, std::size_t count);
/// out = x / by, rounded to nearest.
void quotient(const double *x, double by, float *out, std::size_t count);

}  // namespace pccl::train
