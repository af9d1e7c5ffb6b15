// The two optimizers of DiLoCo (Douillard et al. 2023, algorithm 1) over flat float buffers.
//
// Inner: AdamW, whose state belongs to one peer. Outer: SGD with Nesterov momentum, which every peer applies to the same numbers
// and must therefore round in the same way: optimizer.cc is compiled without contraction to fused multiply-add, and its loops
// have no reduction whose order a vector width could change.
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

private:
    static constexpr float kBeta1 = 0.9F, kBeta2 = 0.99F, kEpsilon = 1e-8F, kWeightDecay = 0.01F;
    std::vector<float> m_, v_;
    std::size_t warmup_steps_;
    std::uint64_t steps_ = 0;
};

struct NesterovOptions {
    float learning_rate = 0.7F;
    float momentum = 0.9F;
};

/// One outer step, in place: v <- momentum v + d;  theta <- theta - rate (d + momentum v), with the new v. `pseudo_gradient` is
/// the mean over the peers of (theta - parameters after the inner steps). Equal inputs give equal bits on every machine.
void nesterov_step(std::span<float> theta, std::span<float> velocity, std::span<const float> pseudo_gradient,
                   NesterovOptions options);

/// FNV-1a over the bytes of `values`, going on from `hash`: equal on two peers when their parameters are bit-identical.
inline constexpr std::uint64_t kHashStart = 0xcbf29ce484222325U;
std::uint64_t hash_bits(std::span<const float> values, std::uint64_t hash = kHashStart);

}  // namespace diloco
