// Trainers of the library over simulated peers: what they ask of a communicator is asked of the real protocol in the modelled
// network.
//
// A trainer blocks, so each runs in a thread, and what it does in the background in another; but one thread runs at a time, the
// simulation's or the one whose call has just ended, and the turn is handed on in the order of events: the same seed gives the
// same run. Inner steps take the time that they say, and a worker some time to get going; all other computing takes none. Data
// does not travel: a reduction that the protocol has carried out is computed from what its members gave, and a shared state is
// named by its hash. What a failed call may leave behind in a buffer it does leave there. Messages between peers do travel
// (mail.h).
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "sim/cluster.h"
#include "sim/trainers/mail.h"
#include "train/collectives.h"
#include "unit/train_arithmetic.h"

namespace pccl::sim {

/// A message between trainers.
struct Letter {
    enum class Told { nothing, delivered, failed };
    PeerId sender;
    peer::PostPtr post;
    train::Bytes content;       ///< as it was posted
    Told told = Told::nothing;  ///< to the sender
    unsigned received = 0;      ///< times that the receiver has taken it
};
enum class LetterEvent { posted, delivered, failed, received };

class Stage : public Observer, public Mail::Witness {
public:
    /// A thread may be stopped for up to `stop` before it begins a reduction.
    Stage(std::uint64_t seed, const NetworkOptions &network, Duration stop)
        : cluster_(seed, network, {.journal = true}), stop_(stop) {
        cluster_.watch(*this);
    }
    /// All are lost: threads end.
    ~Stage() override;

    class Actor;
    /// A peer in whose thread `act` runs, from `at` on.
    Actor &add(Duration at, std::function<void(Actor &)> act);
    /// Its process is gone: whatever it calls fails.
    void kill(Actor &actor);
    /// What is on its way between them is lost; they make another link.
    void break_link(Actor &a, Actor &b);
    /// The master's process ends; after `away` another takes its place.
    void restart_master(Duration away) { cluster_.crash_master(away); }
    /// Until nobody acts any more. False: somebody still does after `limit`. `after_event` is called after each.
    bool run(Duration limit, const std::function<void()> &after_event);
    /// Control messages that have arrived so far.
    std::uint64_t messages() const { return messages_; }
    /// Of what has happened so far: which messages arrived where and when.
    std::uint64_t digest() const { return digest_; }
    /// All that were posted.
    const std::deque<Letter> &letters() const { return letters_; }
    /// Until now, from when the stage was set.
    Time now() { return cluster_.queue().now(); }
    /// What a trainer has done with its buffers that it must not, in words; empty if nothing.
    const std::string &misuse() const { return misuse_; }

private:
    friend class SimulatedCollectives;
    friend class SimulatedWorker;
    friend class SimulatedExchange;
    friend class SimulatedClock;

    /// Runs while it has the turn.
    struct Thread {
        std::thread thread;
        std::condition_variable has_turn;
        bool waits = true, ended = false;
    };
    /// One of the protocol's, on its way.
    struct Call {
        CallId id;
        protocol::Complete answer;
        bool done = false;
        Thread *waiting = nullptr;  ///< for it
    };
    static train::Outcome gone() { return {pcclMasterConnectionFailed, "this peer was killed"}; }
    /// What a call reduces, as it was when the call was made.
    struct Given {
        train::Bytes data;
        train::Reduce::Kind kind{};
        pcclShard_t shard{};
        std::size_t count = 0;  ///< elements of the whole buffer
    };

    Thread &start(Actor &actor, Duration after, std::function<void()> act);
    void resume(Thread &thread);
    /// Plans that `thread` has the turn.
    void wake(Actor &actor, Thread &thread, Duration after = Duration(0));
    /// The thread that has the turn waits for `over`, of which somebody who makes it true wakes it.
    template <class Over> void await(Over over) {
        while (!over())
            pause();
    }
    void pause();

    pcclShard_t shard_at(const Node &node, std::size_t count) const;
    train::Bytes result(CallId call, const pcclReduceDescriptor_t &what) const;
    std::uint32_t took_part(CallId call) const { return static_cast<std::uint32_t>(members_.at(op_of_.at(call)).size()); }

    void note_message(const Node &node, std::size_t kind);
    void on_peer_receives(const Node &node, const wire::ToPeer &message) override;
    void on_master_receives(const Node &node, const wire::ToMaster &message) override { note_message(node, ~message.index()); }
    void on_call(const Node &, const CallInfo &call) override {
        if (call.kind == CallKind::reduce) given_[call.id] = std::move(giving_);
    }
    void on_effect(const Node &node, const protocol::PeerEffect &effect) override;
    void on_link(const Node &node, PeerId other, bool up) override;
    void on_frame(const Node &node, std::size_t kind) override { note_message(node, kFrames + kind); }
    void on_changed_post(const Node &node) override { misuse_ = node.name + " changed what it had posted"; }
    void on_news(const Node &node) override;
    void on_final(const Node &, const OpId &op, CallId call, std::size_t, const std::set<PeerId> &) override {
        members_[op].insert(call);
        op_of_[call] = op;
    }

    static constexpr std::size_t kFrames = 1000;  ///< kinds of frames are not those of control messages

    Cluster cluster_;
    const Duration stop_;
    std::vector<std::unique_ptr<Actor>> actors_;
    std::mutex mutex_;
    std::condition_variable given_back_;
    Thread *turn_ = nullptr;  ///< whose it is; nullptr: the simulation's
    std::uint64_t messages_ = 0, digest_ = 0;
    std::string misuse_;
    std::map<std::size_t, std::vector<PeerId>> rings_;  ///< by node
    std::map<CallId, OpId> op_of_;
    std::map<OpId, std::set<CallId>> members_;  ///< calls that hold an operation's result
    std::map<CallId, Given> given_;
    Given giving_;                                    ///< to the call that is about to be made
    std::map<std::uint64_t, train::Bytes> contents_;  ///< of tensors, by their names in the simulation
    std::deque<Letter> letters_;
};

class Stage::Actor {
public:
    Actor(Stage &stage, Node &node)
        : stage_(stage), node_(node),
          mail_(
              stage.cluster_, node, [&stage](const Node &of) -> Mail & { return stage.actors_.at(of.index)->mail_; }, stage) {}

    /// Of this peer, for one trainer.
    std::unique_ptr<train::Collectives> collectives();
    /// An inner step, or other things that take time.
    void spend(Duration time);
    /// Its process ends in order.
    void leave();
    bool dead() const { return !node_.alive; }
    PeerId id() const { return node_.peer->id(); }
    /// Called when its trainer has heard of a message, and before the trainer makes anything of it.
    void watch_letters(std::function<void(const Letter &, LetterEvent)> watch) { watch_ = std::move(watch); }
    /// Messages larger than this go when there is room for them.
    void set_inline_bytes(std::size_t bytes) { mail_.inline_bytes = bytes; }

private:
    friend class Stage;
    friend class SimulatedCollectives;
    friend class SimulatedWorker;
    friend class SimulatedExchange;
    friend class SimulatedClock;

    void begin(CallKind kind, const std::shared_ptr<Stage::Call> &call, wire::Strategy strategy, Tag tag = {},
               std::uint64_t spec_hash = 0);
    protocol::Complete wait(Stage::Call &call);
    protocol::Complete call(CallKind kind, wire::Strategy strategy = wire::Strategy::enforce_popular);
    void note(const Letter &letter, LetterEvent event) {
        if (watch_) watch_(letter, event);
    }

    Stage &stage_;
    Node &node_;
    Mail mail_;
    std::function<void(const Letter &, LetterEvent)> watch_;
    std::vector<std::unique_ptr<Thread>> threads_;  ///< that of `act` first
    std::vector<Thread *> at_mail_;                 ///< of them, those that wait for messages or what became of them
};

}  // namespace pccl::sim
