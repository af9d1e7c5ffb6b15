// The step of the outer optimizer on a run of elements, and the penalty for staleness.
//
// Guarantee: a step on many elements gives the same result as steps on its parts. The penalty is a function of the shared state
// only.
#pragma once

#include <cstddef>

#include <pccl/train.h>

#include "train/method.h"
#include "train/outer_state.h"

namespace pccl::train {

class OuterRule {
public:
    explicit OuterRule(const pcclTrainerConfig_t &config)
        : config_(config), penalized_(traits_of(config).outer_step == OuterStep::penalized) {}

    bool has_momentum() const { return config_.outer_optimizer != pcclOuterSgd; }

    /// Changes parameters `p` and momentum `v` (NULL if there is none) by the averaged pseudo-gradient `g`. With pcclMethodCO2
    /// returns the sum of the squares of p's changes.
    double step(float *p, float *v, const float *g, double penalty, std::size_t count) const;

    /// The first element whose new parameter or momentum would not be finite; `count` if all would be finite. Changes nothing.
    std::size_t first_overflow(const float *p, const float *v, const float *g, double penalty, std::size_t count) const;

    /// The divisor of the next average: 1, except for pcclMethodCO2.
    double penalty(const Counters &counters) const;

    /// Records how far the outer parameters have moved, for later penalties. `squares` is the sum of the squares of all changes.
    void moved(Counters &counters, double squares) const;

private:
    const pcclTrainerConfig_t config_;
    const bool penalized_;
};

}  // namespace pccl::train
