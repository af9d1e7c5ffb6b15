// Trainers of the library over simulated peers: what they ask of a communicator is asked of the real protocol in the modelled
// network.
//
// A trainer blocks, so each runs in a thread; but one thread runs at a time, the simulation's or that of the one trainer whose
// call has just ended, and the turn is handed on in the order of events: the same seed gives the same run. (A trainer that waits
// for an average of its other thread lends its turn to that. One that goes on meanwhile is not for this stage.) Inner steps take
// the time that they say, all other computing none. Data does not travel: a reduction that the protocol has carried out is
// computed from what its members gave, and a shared state is named by its hash. Without shards and messages between peers, which
// the simulator does not model.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "sim/cluster.h"
#include "train/collectives.h"
#include "unit/train_arithmetic.h"

namespace pccl::sim {

class Stage : public Observer {
public:
    Stage(std::uint64_t seed, const NetworkOptions &network) : cluster_(seed, network) { cluster_.watch(*this); }
    /// All are lost: threads end.
    ~Stage() override;

    class Actor;
    /// A peer in whose thread `act` runs, from `at` on.
    Actor &add(Duration at, std::function<void(Actor &)> act);
    /// Its process is gone: whatever it calls fails.
    void kill(Actor &actor);
    /// Until nobody acts any more. False: somebody still does after `limit`. `after_event` is called after each.
    bool run(Duration limit, const std::function<void()> &after_event);
    /// Control messages that have arrived so far.
    std::uint64_t messages() const { return messages_; }

private:
    friend class SimulatedCollectives;

    void resume(Actor &actor);
    void pause(Actor &actor);

    void on_told_peer(const Node &, const wire::ToPeer &) override { ++messages_; }
    void on_told_master(const Node &, const wire::ToMaster &) override { ++messages_; }
    void on_final(const Node &, const OpId &op, CallId call, std::size_t, const std::set<PeerId> &) override {
        members_[op][call], op_of_[call] = op;
    }

    Cluster cluster_;
    std::vector<std::unique_ptr<Actor>> actors_;
    std::mutex mutex_;
    std::condition_variable turn_changed_;
    Actor *turn_ = nullptr;  ///< whose it is; nullptr: the simulation's
    std::uint64_t messages_ = 0;
    std::map<CallId, OpId> op_of_;
    std::map<OpId, std::map<CallId, bool>> members_;  ///< calls that hold an operation's result
    std::map<CallId, train::Bytes> sent_;             ///< what each has given
    std::map<std::uint64_t, train::Bytes> contents_;  ///< of tensors, by their names in the simulation
};

class Stage::Actor {
public:
    Actor(Stage &stage, Node &node) : stage_(stage), node_(node) {}

    /// Of this peer, for one trainer.
    std::unique_ptr<train::Collectives> collectives();
    /// An inner step, or other things that take time.
    void spend(Duration time);
    /// Its process ends in order.
    void leave();
    bool dead() const { return !node_.alive; }

private:
    friend class Stage;
    friend class SimulatedCollectives;

    Stage &stage_;
    Node &node_;
    std::thread thread_;
    bool begun_ = false, waits_ = false, ended_ = false;
};

}  // namespace pccl::sim
