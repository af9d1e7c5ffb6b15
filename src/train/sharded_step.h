// An outer step of which each peer computes its shard: reduce-scatter of pseudo-gradients, the optimizer's step on the own shard,
// all-gather of the new parameters. Of the momentum each peer keeps its shard alone.
//
// Guarantee: the step is taken by all members or by none, and all get the same new parameters, those that one peer alone would
// compute from the same average. Members that come or go divide the momentum anew; what a lost peer held of it begins at zero, at
// all members alike. Every decision rests on an operation that ends the same way at all members. Where the average or the new
// state of any shard is not finite, no member takes the step. Runs on the averager's thread.
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
    /// Both outlive it. `parameters` are read while a step is under way.
    ShardedStep(Collectives &collectives, const OuterRule &rule, const float *parameters)
        : collectives_(collectives), rule_(rule), parameters_(parameters) {}

    /// This peer is out of the run: its shard of the momentum is nobody's.
    void forget() {
        divided_ = false;
        momentum_.clear();
    }

    /// What the next step divides by. Not while one is under way.
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
    bool divided_ = false;  ///< `momentum_` is that of `shard_`
    pcclShard_t shard_{};
    std::vector<float> momentum_, next_momentum_, gradient_, next_;
};

}  // namespace pccl::train
