// Mean and variance of tensors, and sums of models in double precision: what gossip averages with.
//
// Guarantee: the same result on every processor (one order of additions, eight sums side by side, nothing contracted). The sum of
// k copies of a model is exact, so that identical models have themselves as their average, bit for bit. The caller's floating-point mode
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
/// x = own_weight own + others x: the average of a model and of others whose weighted sum `x` is.
void average(double *x, const float *own, double own_weight, double others, std::size_t count);
/// Gives `x` the variance `target` and leaves its mean. A tensor that is constant, or is to be, is left as it is: 0 / 0 has no
/// answer.
void rescale(double *x, double target, std::size_t count);

/// out = x * by, rounded to nearest.
void narrow(const double *x, double by, float *out, std::size_t count);
/// out = x / by, rounded to nearest.
void quotient(const double *x, double by, float *out, std::size_t count);

}  // namespace pccl::train
