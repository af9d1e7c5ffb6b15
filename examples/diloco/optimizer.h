// The inner optimizer. The outer optimizer is part of the library.
//
// Peers that average their gradients make the same inner step and must therefore round in the same way. optimizer.cc is compiled
// without contraction to fused multiply-add, and its loop has no reduction whose order could depend on the vector width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace diloco {

/// AdamW (Loshchilov and Hutter 2019) with bias correction. The rate rises linearly over the first `warmup_steps`. The moments of
/// a newcomer are zero, and a step at the full rate would then change every parameter by the full rate.
class AdamW {
public:
    AdamW(std::size_t count, std::size_t warmup_steps) : m_(count, 0.0F), v_(count, 0.0F), warmup_steps_(warmup_steps) {}

    void step(std::span<float> parameters, std::span<const float> gradient, float learning_rate);

    /// The whole state: two moments and the number of steps.
    std::span<float> first_moments() { return m_; }
    std::span<float> second_moments() { return v_; }
    std::uint64_t &steps() { return steps_; }

private:
    static constexpr float kBeta1 = 0.9F, kBeta2 = 0.99F, kEpsilon = 1e-8F, kWeightDecay = 0.01F;
    std::vector<float> m_, v_;
    std::size_t warmup_steps_;
    std::uint64_t steps_ = 0;
};

}  // namespace diloco
