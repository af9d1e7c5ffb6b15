// The stability criterion for outer optimizers. Pure.
#pragma once

#include <pccl/train.h>

namespace pccl::train {

/// Whether outer steps reduce the error on a quadratic whose whole error the inner steps remove (the worst direction of a real
/// model is close to this). `fresh` is the share of the gradient that belongs to the present parameters; the rest is one outer
/// step old: 1 for synchronous, 0 for asynchronous, 1/N for eager. Exact, by Jury's criterion for the roots of the recurrence.
bool stable(pcclOuterOptimizer_t optimizer, double rate, double momentum, double fresh);

/// The largest learning rate for which stable() is true.
double largest_stable_rate(pcclOuterOptimizer_t optimizer, double momentum, double fresh);

}  // namespace pccl::train
