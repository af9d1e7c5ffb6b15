// The library's trainers over simulated peers. Their calls on a communicator go to the real protocol in the modelled network.
//
// A trainer blocks, so each trainer runs in a thread, and its background tasks run in another thread. Only one thread runs at a
// time: the simulation's, or the thread whose call has just ended. The turn passes in the order of events, so the same seed gives
// the same run. Inner steps take the time that their caller states, and a worker takes some time to start; all other computation
// takes no time. Data is not sent: a reduction that the protocol has carried out is computed from its members' inputs, and a
// shared state is named by its hash. A failed call leaves arbitrary values in its buffer wherever the API allows that. Messages
// between peers are sent (mail.h).
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
    train::Bytes content;       ///< the content at the time of the post
    Told told = Told::nothing;  ///< the outcome that the sender has received
    unsigned received = 0;      ///< number of times that the receiver has taken it
};
enum class LetterEvent { posted, delivered, failed, received };

class Stage : public Observer, public Mail::Witness {
public:
    /// A thread may be stopped for up to `stop` before it begins a reduction.
    Stage(std::uint64_t seed, const NetworkOptions &network, Duration stop)
        : cluster_(seed, network, {.journal = true}), stop_(stop) {
        cluster_.watch(*this);
    }
    /// All peers are lost, so that their threads end.
    ~Stage() override;

    class Actor;
    /// Adds a peer. `act` runs in its thread, from time `at` on.
    Actor &add(Duration at, std::function<void(Actor &)> act);
    /// The peer's process ends abruptly: all its calls fail.
    void kill(Actor &actor);
    /// The link between two peers breaks. Messages in flight are lost, and the peers make another link.
    void break_link(Actor &a, Actor &b);
    /// The master's process ends. After `away` another process takes its place.
    void restart_master(Duration away) { cluster_.crash_master(away); }
    /// Runs until all threads have ended. False: a thread still runs after `limit`. `after_event` is called after each event.
    bool run(Duration limit, const std::function<void()> &after_event);
    /// Control messages that have arrived so far.
    std::uint64_t messages() const { return messages_; }
    /// A digest of the events so far: the messages with their places and times of arrival.
    std::uint64_t digest() const { return digest_; }
    /// All posted messages.
    const std::deque<Letter> &letters() const { return letters_; }
    /// The simulated time since the start.
    Time now() { return cluster_.queue().now(); }
    /// A description of a trainer's misuse of its buffers; empty if there was none.
    const std::string &misuse() const { return misuse_; }

private:
    friend class SimulatedCollectives;
    friend class SimulatedWorker;
    friend class SimulatedExchange;
    friend class SimulatedClock;

    /// A thread that runs only while it has the turn.
    struct Thread {
        std::thread thread;
        std::condition_variable has_turn;
        bool waits = true, ended = false;
    };
    /// A call of the protocol without a result yet.
    struct Call {
        CallId id;
        protocol::Complete answer;
        bool done = false;
        Thread *waiting = nullptr;  ///< the thread that waits for it
    };
    static train::Outcome gone() { return {pcclMasterConnectionFailed, "this peer was killed"}; }
    /// The input of a reduction at the time of the call.
    struct Given {
        train::Bytes data;
        train::Reduce::Kind kind{};
        pcclShard_t shard{};
        std::size_t count = 0;  ///< number of elements in the whole buffer
    };

    Thread &start(Actor &actor, Duration after, std::function<void()> act);
    void resume(Thread &thread);
    /// Plans that `thread` has the turn.
    void wake(Actor &actor, Thread &thread, Duration after = Duration(0));
    /// The thread with the turn waits for `over`. The code that makes `over` true must wake it.
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
    void on_changed_post(const Node &node) override { misuse_ = node.name + " changed a posted buffer"; }
    void on_news(const Node &node) override;
    void on_final(const Node &, const OpId &op, CallId call, std::size_t, const std::set<PeerId> &) override {
        members_[op].insert(call);
        op_of_[call] = op;
    }

    static constexpr std::size_t kFrames = 1000;  ///< kinds of frames begin here, above those of control messages

    Cluster cluster_;
    const Duration stop_;
    std::vector<std::unique_ptr<Actor>> actors_;
    std::mutex mutex_;
    std::condition_variable given_back_;
    Thread *turn_ = nullptr;  ///< the thread with the turn; nullptr: the simulation has it
    std::uint64_t messages_ = 0, digest_ = 0;
    std::string misuse_;
    std::map<std::size_t, std::vector<PeerId>> rings_;  ///< by node
    std::map<CallId, OpId> op_of_;
    std::map<OpId, std::set<CallId>> members_;  ///< calls that use an operation's result
    std::map<CallId, Given> given_;
    Given giving_;                                    ///< input of the next call
    std::map<std::uint64_t, train::Bytes> contents_;  ///< contents of tensors, by their names in the simulation
    std::deque<Letter> letters_;
};

class Stage::Actor {
public:
    Actor(Stage &stage, Node &node)
        : stage_(stage), node_(node),
          mail_(
              stage.cluster_, node, [&stage](const Node &of) -> Mail & { return stage.actors_.at(of.index)->mail_; }, stage) {}

    /// The collectives of this peer, for one trainer.
    std::unique_ptr<train::Collectives> collectives();
    /// Lets time pass, for example for an inner step.
    void spend(Duration time);
    /// The peer's process ends in an orderly way.
    void leave();
    bool dead() const { return !node_.alive; }
    PeerId id() const { return node_.peer->id(); }
    /// Called when the peer's trainer has received a message, before the trainer uses it.
    void watch_letters(std::function<void(const Letter &, LetterEvent)> watch) { watch_ = std::move(watch); }
    /// Messages larger than this are sent after a grant of room.
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
    std::vector<std::unique_ptr<Thread>> threads_;  ///< the thread of `act` is the first
    std::vector<Thread *> at_mail_;                 ///< threads that wait for messages or outcomes of posts
};

}  // namespace pccl::sim
