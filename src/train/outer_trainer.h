// DiLoCo and its family: inner steps alone, averaged pseudo-gradients, the same outer step everywhere.
//
// One machine for all of them. A *fragment* (the whole model, but for streaming) begins an outer step every sync_every inner
// steps: its pseudo-gradient is taken and its average launched. The average is applied at once (DiLoCo), some inner steps later
// (streaming), or when the next one begins (async, eager, CO2). When a fragment has begun, newcomers are asked for.
//
// Invariant: what is shared (outer parameters, momentum, counters) is a function of what was shared and of averages, and of
// nothing else; it changes at the same step at all members, by all of it or nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "train/averager.h"
#include "train/outer_rule.h"
#include "train/sharded_step.h"
#include "train/trainer.h"

namespace pccl::train {

class OuterTrainer final : public Trainer {
public:
    OuterTrainer(const pcclTrainerConfig_t &config, std::unique_ptr<Collectives> collectives, std::vector<Parameter> parameters);
    ~OuterTrainer() override;

    bool is_due() const override;

private:
    /// An average that was launched.
    struct Flight {
        std::size_t fragment = 0;
        std::uint64_t apply_at = 0;  ///< inner step of the run; streaming alone
    };

    Outcome open() override;
    Outcome advance(bool end_round) override;
    Outcome settled(const Agreed &agreed) override;
    void abandon() override;
    Outcome conclude() override;
    void add_shared(std::vector<pcclTensorInfo_t> &tensors) override;

    bool asks_ahead(std::uint64_t step) const;
    bool begins(std::size_t fragment, std::uint64_t step) const;
    Outcome begin(std::size_t fragment);
    Outcome begin_delayed(std::size_t fragment);
    Outcome boundary();
    Outcome drain();
    Outcome collect(bool &has_average);
    Outcome catch_up();
    void take_pseudo_gradient(const Fragment &fragment);
    Outcome note_contributions(const Fragment &fragment, const Average &average);
    std::size_t not_finite_in(const Fragment &fragment) const;
    std::size_t &replaced(const Fragment &fragment);
    void heal(const Fragment &merged);
    void launch(std::size_t fragment);
    Outcome apply(const Fragment &fragment);
    Outcome note_step_overflow(const Fragment &fragment, std::size_t element);
    void merge(const Fragment &fragment);
    void restart(const Fragment &fragment);
    bool delayed() const;

    const OuterRule rule_;
    std::unique_ptr<ShardedStep> sharded_;  ///< or NULL
    std::unique_ptr<WholeAverage> whole_;
    std::unique_ptr<Averager> averager_;  ///< works with one of these
    std::deque<Flight> flights_;          ///< in order of launch
    std::uint64_t round_steps_ = 0;       ///< inner steps made here since the last contribution
    Clock::Time round_start_;
    std::size_t not_finite_ = kAllFinite;  ///< the first element of the last pseudo-gradient that is not
    std::vector<std::size_t>
        replaced_;              ///< by fragment: the first parameter that was not finite when they were replaced in its round
    bool diverged_ = false;     ///< an average has shown that outer states differ
    bool stale_ = false;        ///< an average has shown that some members need the run's state
    bool own_stale_ = false;    ///< this peer is one of them
    bool second_sync_ = false;  ///< newcomers have yet to be given what the members' next outer step makes of the state
    bool resyncing_ = false;    ///< this peer is one of them
};

}  // namespace pccl::train
