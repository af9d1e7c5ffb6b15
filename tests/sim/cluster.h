// A whole run in one thread: the real protocol::Master, real protocol::Peers, and between them a modelled network.
//
// Control connections are FIFO in each direction, and each message has a delay of its own. Every message passes the codec and the
// framing. Nodes (processes) can crash, hang and resume. DataPlane models the data that moves between nodes.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "observer.h"
#include "queue.h"
#include "rng.h"
#include "wire/messages.h"

namespace pccl::sim {

class DataPlane;

/// An application's shared state: a tensor's content is a number.
struct State {
    std::uint64_t revision = 0;
    std::vector<std::uint64_t> tensors;
    std::size_t free_to_differ = 0;  ///< this number of tensors at the end of the list may differ between members
};

struct NetworkOptions {
    Duration delay_min = std::chrono::milliseconds(1);
    Duration delay_max = std::chrono::milliseconds(1);
    unsigned spike_per_mille = 0;  ///< messages with a long delay
    Duration spike_max = std::chrono::milliseconds(800);
    unsigned dial_fails_per_mille = 0;  ///< attempts to connect to the master that fail
    bool delivers_closing = false;      ///< the master's shell passes on messages from connections that it is closing
};

/// The island of a node and its number of peers. 0: none.
struct Island {
    std::uint64_t number = 0;
    std::uint32_t peers = 0;
};

/// One process with its library.
struct Node {
    std::size_t index = 0;
    std::string name;
    GroupId group;
    Island island;
    std::unique_ptr<protocol::Peer> peer;
    State state;
    wire::GraphSpec graph;  ///< requested by its next `graph` call
    bool alive = true;
    bool hung = false;
    Time up_blocked_until, down_blocked_until;
    protocol::ConnId conn;  ///< 0: none
    std::optional<Time> tick_at;
    std::map<CallId, CallInfo> calls;
    std::map<CallId, std::function<void(const protocol::Complete &)>> waiters;
    std::deque<EventQueue::Action> backlog;  ///< events that arrived while it hung
};

class Cluster {
public:
    Cluster(std::uint64_t seed, const NetworkOptions &network, const protocol::MasterOptions &master = {});
    ~Cluster();
    Cluster(const Cluster &) = delete;
    Cluster &operator=(const Cluster &) = delete;

    void watch(Observer &observer) { observers_.push_back(&observer); }
    /// Called with each message that leaves the master. It may change the message; if it returns false, the message is lost. For
    /// tests that break the protocol on purpose.
    std::function<bool(const Node &, wire::ToPeer &)> tamper_master;
    /// As `tamper_master`, for the effects of a peer's state machine.
    std::function<bool(const Node &, protocol::PeerEffect &)> tamper_peer;

    Node &add_node(GroupId group, std::string name = "", Island island = {});
    std::vector<std::unique_ptr<Node>> &nodes() { return nodes_; }
    Node *owner(PeerId id);  ///< the node that has or had this id

    // Applications.
    using Done = std::function<void(const protocol::Complete &)>;
    CallId call(Node &node, CallKind kind, Done done, Tag tag = {}, std::uint64_t spec_hash = 0,
                wire::Strategy strategy = wire::Strategy::enforce_popular, op::LossPolicy fault = op::LossPolicy::retry);
    void abort_calls(Node &node);
    void leave(Node &node);

    // Faults.
    enum class Crash { reset, silent };
    void crash(Node &node, Crash kind);
    void hang(Node &node);
    void resume(Node &node);
    /// Messages between the node and the master are delayed by this time in the given directions.
    void cut(Node &node, bool up, bool down, Duration time);
    /// The master's process and all its connections end: now, or after `effects` effects of its next step that has more than
    /// these. A new process starts from the record after `away`.
    void crash_master(Duration away);
    void crash_master_within(std::size_t effects, Duration away) { dies_within_ = {effects, away}; }
    bool master_is_up() const { return master_ != nullptr; }

    EventQueue &queue() { return queue_; }
    const EventQueue &queue() const { return queue_; }
    Rng &rng() { return rng_; }
    DataPlane &data() { return *data_; }
    Duration delay();
    /// Schedules `action` for a node. It is dropped if the node is dead by then, and waits while the node hangs.
    void at_node(Node &node, Duration delay, EventQueue::Action action);
    void step(Node &node, const protocol::PeerInput &input);
    template <class F> void observe(F report) {
        for (Observer *observer : observers_)
            report(*observer);
    }

private:
    /// One direction of a control connection.
    struct Channel {
        Time last;  ///< arrival of the last message sent
        std::uint64_t sent = 0, arrived = 0;
        std::uint64_t lost_from = UINT64_MAX;  ///< messages from this number on are lost with their sender
        wire::FrameBuffer frames{wire::kMaxControlBytes};
    };
    struct Conn {
        protocol::ConnId id;
        Node *node = nullptr;
        PeerId peer;  ///< as in the master's Welcome
        Channel up, down;
        bool master_closed = false;
        bool gone = false;  ///< the master has received Disconnected
    };

    void dial_master(Node &node);
    void hang_up(Node &node);
    void send_up(Node &node, const wire::ToMaster &message);
    void arrive_up(Conn &conn, std::uint64_t number, const wire::Bytes &bytes);
    void end_up(Conn &conn, const char *why);
    void send_down(Conn &conn, wire::ToPeer message);
    void close_down(Conn &conn, const std::string &why);
    void step_master(const protocol::MasterInput &input);
    void start_master();
    void plan_master_tick();
    void plan_tick(Node &node);
    void run_at_node(Node &node, EventQueue::Action action);
    void carry_out(Node &node, protocol::PeerEffect &effect);
    void complete(Node &node, const protocol::Complete &done);
    Time arrival(const Node &node, Channel &channel, bool up);

    EventQueue queue_;
    const std::uint64_t seed_;
    Rng rng_;
    NetworkOptions network_;
    protocol::MasterOptions master_options_;
    std::unique_ptr<protocol::Master> master_;  ///< null: its process has ended
    protocol::NamedValues journal_;             ///< the values that the master has persisted
    std::uint64_t master_starts_ = 0;
    std::optional<std::pair<std::size_t, Duration>> dies_within_;
    std::optional<Time> master_tick_at_;
    std::vector<std::unique_ptr<Node>> nodes_;
    std::vector<std::unique_ptr<Conn>> conns_;  ///< ConnId n at n - 1
    std::map<PeerId, Node *> owners_;
    std::unique_ptr<DataPlane> data_;
    std::vector<Observer *> observers_;
    std::uint64_t next_call_ = 1;
};

}  // namespace pccl::sim
