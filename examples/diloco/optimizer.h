// The inner optimizer. The outer one is the library's.
//
// Peers that average their gradients make the same step of it and must therefore round in the same way: optimizer.cc is compiled
// without contraction to fused multiply-add, and its loop has no reduction whose order a vector width could change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace diloco {

/// AdamW (Loshchilov and Hutter 2019) with bias correction. Its first `warmup_steps` raise the rate linearly: with moments of
/// zero, as a late joiner has them, a step at the full rate would be a step of full size in every parameter.
class AdamW {
public:
    AdamW(std::size_t count, std::size_t warmup_steps) : m_(count, 0.0F), v_(count, 0.0F), warmup_steps_(warmup_steps) {}

    void step(std::span<float> parameters, std::span<const float> gradient, float learning_rate);

    /// All of its state: two moments and the number of steps made.
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
