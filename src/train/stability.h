// Whether an outer optimizer can be stable at all. Pure.
#pragma once

#include <pccl/train.h>

namespace pccl::train {

/// Whether outer steps shrink an error on a quadratic of which the inner steps remove everything (the worst direction of a real model comes
/// close). `fresh` is the share of the gradient that belongs to the present parameters, the rest being one outer step old: 1 synchronous,
/// 0 asynchronous, 1/N eager. Exact, by the criterion of Jury for the roots of the recurrence.
bool stable(pcclOuterOptimizer_t optimizer, double rate, double momentum, double fresh);

/// The learning rate at which stable() ends.
double largest_stable_rate(pcclOuterOptimizer_t optimizer, double momentum, double fresh);

}  // namespace pccl::train
