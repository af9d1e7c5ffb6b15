#include "optimizer.h"

#include <cmath>

namespace diloco {

void AdamW::step(std::span<float> parameters, std::span<const float> gradient, float learning_rate) {
    ++steps_;
    const auto t = static_cast<float>(steps_);
    if (steps_ < warmup_steps_) {
        learning_rate *= t / static_cast<float>(warmup_steps_);
    }
    const float correct1 = 1.0F / (1.0F - std::pow(kBeta1, t));
    const float correct2 = 1.0F / (1.0F - std::pow(kBeta2, t));
    const float keep = 1.0F - learning_rate * kWeightDecay;
    float *p = parameters.data();
    const float *g = gradient.data();
    float *m = m_.data();
    float *v = v_.data();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        m[i] = kBeta1 * m[i] + (1.0F - kBeta1) * g[i];
        v[i] = kBeta2 * v[i] + (1.0F - kBeta2) * g[i] * g[i];
        p[i] = keep * p[i] - learning_rate * (m[i] * correct1) / (std::sqrt(v[i] * correct2) + kEpsilon);
    }
}

}  // namespace diloco
