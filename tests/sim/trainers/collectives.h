// The communicator of a trainer on the stage, and its worker.
//
// It uses the freedom that pccl.h gives: after a failed reduction the receive buffer holds arbitrary values. It also checks the
// trainer's obligations: a buffer does not change while the library uses it, and a failed average is repeated with its first
// values.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "sim/trainers/exchange.h"
#include "sim/trainers/stage.h"

namespace pccl::sim {

/// The time of the simulation.
class SimulatedClock final : public train::Clock {
public:
    explicit SimulatedClock(Stage::Actor &actor) : actor_(actor) {}
    Time now() override { return Time(actor_.stage_.now().since_origin); }
    void pause(std::chrono::milliseconds time) override { actor_.spend(time); }

private:
    Stage::Actor &actor_;
};

class SimulatedCollectives final : public train::Collectives {
public:
    explicit SimulatedCollectives(Stage::Actor &actor) : stage_(actor.stage_), actor_(actor), exchange_(actor), clock_(actor) {}

    bool connected() override { return !actor_.dead() && actor_.node_.peer->view() != ViewNumber{}; }
    std::uint32_t world() override { return connected() ? actor_.node_.peer->world().group : 0; }
    std::uint64_t self() override { return connected() ? actor_.id().value : 0; }
    train::Outcome connect() override { return outcome(actor_.call(CallKind::connect)); }
    train::Outcome are_peers_pending(bool &pending) override;
    train::Outcome update_topology() override { return outcome(actor_.call(CallKind::update)); }
    train::Outcome optimize_topology() override { return outcome(actor_.call(CallKind::optimize)); }
    train::Outcome synchronize(pcclSharedState_t &state, pcclSharedStateSyncStrategy_t strategy,
                               pcclSharedStateSyncInfo_t &info) override;
    train::Outcome shard(std::size_t count, pcclShard_t &shard) override;
    train::Outcome launch(const train::Reduce &reduce) override;
    train::Outcome await(std::uint64_t tag, train::ReduceReport &report) override;
    void abort() override;
    train::Exchange *exchange() override { return &exchange_; }
    train::Clock &clock() override { return clock_; }
    std::unique_ptr<train::Worker> worker() override;

private:
    struct Pending : Stage::Call {
        train::Reduce reduce;
    };

    static train::Outcome outcome(const protocol::Complete &done) { return {done.code, done.why}; }
    void check_kept(const Pending &pending);
    void check_repeated(const train::Reduce &reduce);
    void spoil(const Pending &pending);

    Stage &stage_;
    Stage::Actor &actor_;
    SimulatedExchange exchange_;
    SimulatedClock clock_;
    std::map<std::uint64_t, std::deque<std::shared_ptr<Pending>>> launched_;
    std::map<std::uint64_t, train::Bytes> to_repeat_;  ///< by tag: the input of averages that have failed
};

/// A worker whose thread runs in the turns of its trainer's peer.
class SimulatedWorker final : public train::Worker {
public:
    explicit SimulatedWorker(Stage::Actor &actor) : stage_(actor.stage_), actor_(actor) {}
    ~SimulatedWorker() override;
    void begin(Task task) override;
    void wait() override;
    std::size_t pending() const override { return todo_.size() + (running_ ? 1 : 0) + ended_; }
    void drop(const std::function<void()> &abort, std::chrono::milliseconds patience) override;

private:
    void work();

    Stage &stage_;
    Stage::Actor &actor_;
    Stage::Thread *thread_ = nullptr;  ///< exists from the first task on
    Stage::Thread *owner_ = nullptr;
    std::deque<Task> todo_;
    std::size_t ended_ = 0;  ///< ended tasks that were not waited for
    bool running_ = false, stop_ = false;
};

}  // namespace pccl::sim
