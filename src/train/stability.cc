// See train/stability.h.
#include "train/stability.h"

#include <cmath>

namespace pccl::train {

bool stable(pcclOuterOptimizer_t optimizer, double rate, double momentum, double fresh) {
    // z^3 + a2 z^2 + a1 z + a0: with y' = y - rate (...), v' = momentum v + g, g = fresh y + (1 - fresh) y of the step before.
    const double u = optimizer == pcclOuterSgd ? 0.0 : momentum, stale = 1.0 - fresh;
    double a2 = -(1.0 + u), a1 = u, a0 = 0.0;
    if (optimizer == pcclOuterNesterov) {
        a2 += rate * fresh * (1.0 + u);
        a1 += rate * (stale * (1.0 + u) - fresh * u);
        a0 -= rate * stale * u;
    } else {
        a2 += rate * fresh;
        a1 += rate * stale;
    }
    return std::abs(a0) < 1.0 && std::abs(a0 + a2) < 1.0 + a1 && std::abs(a1 - a0 * a2) < 1.0 - a0 * a0;
}

double largest_stable_rate(pcclOuterOptimizer_t optimizer, double momentum, double fresh) {
    double low = 0.0, high = 8.0;  // every optimizer is stable for small rates and none from 4 on
    for (int i = 0; i < 60; ++i) {
        const double middle = 0.5 * (low + high);
        (stable(optimizer, middle, momentum, fresh) ? low : high) = middle;
    }
    return low;
}

}  // namespace pccl::train
