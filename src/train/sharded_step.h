// An outer step in which each peer computes its shard: reduce-scatter of pseudo-gradients, the optimizer's step on the peer's
// shard, all-gather of the new parameters. Each peer keeps the momentum of its own shard only.
//
// Guarantee: all members take the step or none does, and all get the same new parameters, which are those that one peer would
// compute from the same average. The momentum is divided again when the membership changes. The part that a lost peer held
// becomes zero at all members. Every decision depends on an operation that ends the same way at all members. If the average or
// the new state of any shard is not finite, no member takes the step. Runs on the averager's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "train/averager.h"
#include "train/collectives.h"
#include "train/outcome.h"
#include "train/outer_rule.h"

namespace pccl::train {

class ShardedStep final : public Reducer {
public:
    /// The arguments must outlive it. `parameters` are read during a step.
    ShardedStep(Collectives &collectives, const OuterRule &rule, const float *parameters)
        : collectives_(collectives), rule_(rule), parameters_(parameters) {}

    /// This peer is out of the run: its shard of the momentum is discarded.
    void forget() {
        divided_ = false;
        momentum_.clear();
    }

    /// Sets the divisor of the average in the next step. Must not be called during a step.
    void set_penalty(double penalty) { penalty_ = penalty; }

    /// `c.recv` gets the parameters after the step.
    Outcome attempt(const Contribution &c, Average &out) override;

    /// Elements of the momentum that are kept here.
    std::size_t momentum_elements() const { return momentum_.size(); }

private:
    Outcome agree(const Contribution &c, const pcclShard_t &shard, bool &divide, Average &out);
    Outcome divide_anew(const Contribution &c, const pcclShard_t &shard, Average &out);

    std::uint64_t overflow_word(const pcclShard_t &shard) const;

    Collectives &collectives_;
    const OuterRule &rule_;
    const float *parameters_;
    double penalty_ = 1.0;
    bool divided_ = false;  ///< `momentum_` belongs to `shard_`
    pcclShard_t shard_{};
    std::vector<float> momentum_, next_momentum_, gradient_, next_;
};

}  // namespace pccl::train
