// See train/sharded_step.h.
#include "train/sharded_step.h"

#include <algorithm>

#include "train/vector.h"

namespace pccl::train {
namespace {

constexpr std::uint64_t kAverageOverflows = std::uint64_t{1} << 63U;  // one bit above the number of the element

}  // namespace

/// Agrees whether all members use the same division, whether a member still lacks its part of the momentum, and which members
/// contribute.
Outcome ShardedStep::agree(const Contribution &c, const pcclShard_t &shard, bool &divide, Average &out) {
    const bool missing = !divided_ || shard_.membership != shard.membership;
    Ballot ballot(c, collectives_.self(), {shard.membership, ~shard.membership, missing ? 1U : 0U});
    Together ops(collectives_);
    ballot.add_to(ops, c.tag + 1);
    auto outcome = ops.run(out);
    const bool alone = outcome.code == pcclTooFewPeers;
    if (!alone && !outcome.ok()) return outcome;
    if (alone) {
        ballot.stand_alone();
        out.world = 1;
    }
    ballot.count(alone ? 1 : ops.members(), out);
    if (ballot.extra(0) != ~ballot.extra(1))
        return {pcclRankConnectionLost, "a peer was lost while the outer state was being divided"};
    divide = alone ? missing : ballot.extra(2) != 0 && rule_.has_momentum();
    return {};
}

/// Gathers the members' parts of the momentum, and divides it among the present members.
Outcome ShardedStep::divide_anew(const Contribution &c, const pcclShard_t &shard, Average &out) {
    std::fill_n(c.recv, c.count, 0.0F);
    if (divided_) std::ranges::copy(momentum_, c.recv + shard_.first);
    Together ops(collectives_);
    ops.add({c.recv, c.recv, describe_reduce(c.count, pcclSum, c.tag, pcclFloat)});
    if (auto outcome = ops.run(out); !outcome.ok() && outcome.code != pcclTooFewPeers) return outcome;
    momentum_.assign(c.recv + shard.first, c.recv + shard.first + shard.elements);
    return {};
}

/// Names the first element of this shard that is not finite, in the average or, if that is finite, in the new state. 0: all are
/// finite. Members take the maximum.
std::uint64_t ShardedStep::overflow_word(const pcclShard_t &shard) const {
    const std::size_t average = first_not_finite(gradient_.data(), gradient_.size());
    if (average != gradient_.size()) return (shard.first + average + 1) | kAverageOverflows;
    const std::size_t step =
        std::min(first_not_finite(next_.data(), next_.size()),
                 rule_.has_momentum() ? first_not_finite(next_momentum_.data(), next_momentum_.size()) : next_.size());
    return step == next_.size() ? 0 : shard.first + step + 1;
}

Outcome ShardedStep::attempt(const Contribution &c, Average &out) {
    pcclShard_t shard{};
    PCCL_TRAIN_TRY(collectives_.shard(c.count, shard));
    bool divide = false;
    PCCL_TRAIN_TRY(agree(c, shard, divide, out));
    if (out.nothing) return {};
    if (divide) {
        PCCL_TRAIN_TRY(divide_anew(c, shard, out));
        shard_ = shard;
        divided_ = true;
    }
    gradient_.resize(shard.elements);
    auto what = describe_reduce(c.count, pcclAvg, c.tag + 4, pcclFloat);
    what.quantization_options = c.quantization;
    Together scatter(collectives_);
    scatter.add({c.send, gradient_.data(), what, true, Reduce::Kind::reduce_scatter, &shard});
    auto outcome = scatter.run(out);
    const bool alone = outcome.code == pcclTooFewPeers;
    if (!alone && !outcome.ok()) return outcome;
    if (alone) {  // all others were lost, and their parts of the momentum with them
        std::vector<float> whole(rule_.has_momentum() ? c.count : 0, 0.0F);
        if (divided_ && rule_.has_momentum())
            std::ranges::copy(momentum_, whole.begin() + static_cast<std::ptrdiff_t>(shard_.first));
        momentum_ = std::move(whole);
        gradient_.assign(c.send, c.send + c.count);
        shard.first = 0;
        shard.elements = c.count;
        shard_ = shard;  // this shard belongs to the previous membership: the next attempt divides again
        divided_ = true;
        if (c.not_finite != kAllFinite) {  // no member with a contribution is left
            out.nothing = true;
            out.world = 1;
            return {};
        }
    } else if (out.left_out != 0) {
        multiply(gradient_.data(), static_cast<float>(shard.world_size) / static_cast<float>(out.counted), gradient_.size());
    }

    next_.assign(parameters_ + shard.first, parameters_ + shard.first + shard.elements);
    next_momentum_ = momentum_;
    static_cast<void>(rule_.step(next_.data(), rule_.has_momentum() ? next_momentum_.data() : nullptr, gradient_.data(), penalty_,
                                 shard.elements));
    const std::uint64_t overflow = overflow_word(shard);
    std::uint64_t any_overflow = overflow;
    if (alone) {
        std::ranges::copy(next_, c.recv);
        out.world = 1;
    } else {
        Together gather(collectives_);
        gather.add({next_.data(), c.recv, describe_reduce(c.count, pcclSum, c.tag + 5, pcclFloat), false,
                    Reduce::Kind::all_gather, &shard});
        gather.add({&overflow, &any_overflow, describe_reduce(1, pcclMax, c.tag + 6, pcclUint64)});
        outcome = gather.run(out);
        // A member that is now alone repeats the step and then detects that it is alone.
        if (outcome.code == pcclTooFewPeers) return {pcclRankConnectionLost, outcome.why};
        if (!outcome.ok()) return outcome;
    }
    if (any_overflow != 0) {
        const bool of_average = (any_overflow & kAverageOverflows) != 0;
        out.nothing = true;
        (of_average ? out.overflow : out.step_overflow) = (any_overflow & ~kAverageOverflows) - 1;
        return {};
    }
    momentum_.swap(next_momentum_);
    return {};
}

}  // namespace pccl::train
