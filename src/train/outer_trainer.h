// DiLoCo and its family: each peer makes inner steps alone, pseudo-gradients are averaged, and all peers make the same outer
// step.
//
// One state machine serves all these methods. A *fragment* (the whole model, except for streaming) begins an outer step every
// sync_every inner steps: its pseudo-gradient is computed and its average launched. The average is applied immediately (DiLoCo),
// some inner steps later (streaming), or when the next average is launched (async, eager, CO2). After a fragment has begun, the
// trainer asks for newcomers.
//
// Invariant: the shared state (outer parameters, momentum, counters) is a function of the previous shared state and of averages
// only. It changes at the same step at all members, completely or not at all.
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
        std::uint64_t apply_at = 0;  ///< inner step of the run (streaming only)
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
    std::unique_ptr<Averager> averager_;  ///< uses sharded_ or whole_
    std::deque<Flight> flights_;          ///< in order of launch
    std::uint64_t round_steps_ = 0;       ///< inner steps made here since the last contribution
    Clock::Time round_start_;
    std::size_t not_finite_ = kAllFinite;  ///< the first element of the last pseudo-gradient that is not finite
    std::vector<std::size_t> replaced_;    ///< by fragment: the first parameter that was not finite at a replacement in its round
    bool diverged_ = false;                ///< an average has shown that outer states differ
    bool stale_ = false;                   ///< an average has shown that some members need the run's state
    bool own_stale_ = false;               ///< this peer needs the run's state
    bool second_sync_ = false;             ///< newcomers must still receive the state after the members' next outer step
    bool resyncing_ = false;               ///< this peer is such a newcomer
};

}  // namespace pccl::train
