// The step of the outer optimizer on a run of elements, and the penalty for staleness.
//
// Guarantee: a step of many elements is the steps of its parts; the penalty is a function of what all peers share.
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

    /// The first element whose new parameter or momentum would not be finite; `count` if all would be. Changes nothing.
    std::size_t first_overflow(const float *p, const float *v, const float *g, double penalty, std::size_t count) const;

    /// What the next average is divided by: 1 but for pcclMethodCO2.
    double penalty(const Counters &counters) const;

    /// Takes down how far the outer parameters have moved, for the penalties to come. `squares` is the sum of the squares of all
    /// changes.
    void moved(Counters &counters, double squares) const;

private:
    const pcclTrainerConfig_t config_;
    const bool penalized_;
};

}  // namespace pccl::train
