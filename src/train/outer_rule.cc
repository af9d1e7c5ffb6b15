// See train/outer_rule.h.
#include "train/outer_rule.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "train/vector.h"

namespace pccl::train {

double OuterRule::step(float *p, float *v, const float *g, double penalty, std::size_t count) const {
    const float rate = config_.outer_learning_rate, momentum = config_.outer_momentum;
    if (penalized_) {
        return clipped_heavy_ball(p, v, g, rate, momentum, static_cast<float>(penalty), config_.clip_momentum, count);
    }
    if (config_.outer_optimizer == pcclOuterSgd)
        sgd(p, g, rate, count);
    else if (config_.outer_optimizer == pcclOuterHeavyBall)
        heavy_ball(p, v, g, rate, momentum, count);
    else
        nesterov(p, v, g, rate, momentum, count);
    return 0.0;
}

std::size_t OuterRule::first_overflow(const float *p, const float *v, const float *g, double penalty, std::size_t count) const {
    std::array<float, 1024> parameters, momentum;
    for (std::size_t i = 0; i < count; i += parameters.size()) {
        const std::size_t n = std::min(parameters.size(), count - i);
        std::copy_n(p + i, n, parameters.data());
        if (v) std::copy_n(v + i, n, momentum.data());
        static_cast<void>(step(parameters.data(), v ? momentum.data() : nullptr, g + i, penalty, n));
        const std::size_t first = std::min(first_not_finite(parameters.data(), n), v ? first_not_finite(momentum.data(), n) : n);
        if (first != n) return i + first;
    }
    return count;
}

double OuterRule::penalty(const Counters &counters) const {
    if (!penalized_) return 1.0;
    if (config_.penalty_mode == pcclPenaltyConstant) return config_.penalty;
    const bool known = config_.penalty_mode == pcclPenaltyGapAware && counters.usual_move > 0.0;
    return known ? 1.0 + counters.last_move / counters.usual_move : 1.0;
}

void OuterRule::moved(Counters &counters, double squares) const {
    counters.last_move = std::sqrt(squares);
    counters.usual_move = counters.usual_move > 0.0 ? 0.9 * counters.usual_move + 0.1 * counters.last_move : counters.last_move;
}

}  // namespace pccl::train
