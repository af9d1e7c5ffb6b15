#include "cluster.h"

#include <stdexcept>

#include "base/assert.h"
#include "data_plane.h"

namespace pccl::sim {

using protocol::ConnId;

const char *name_of(CallKind kind) {
    static constexpr const char *kNames[] = {"connect", "update", "ask", "optimize", "reduce", "sync", "graph"};
    return kNames[static_cast<int>(kind)];
}

namespace {

std::function<Secret()> secrets(std::uint64_t seed) {
    return [rng = Rng(seed)]() mutable {
        Secret secret{};
        for (auto &byte : secret)
            byte = static_cast<std::uint8_t>(rng.next());
        return secret;
    };
}

wire::OfferState offer_of(const State &state, wire::Strategy strategy) {
    wire::OfferState offer;
    offer.revision = state.revision;
    offer.strategy = strategy;
    for (std::size_t i = 0; i < state.tensors.size(); ++i) {
        wire::TensorOffer tensor;
        tensor.name = "t" + std::to_string(i);
        tensor.count = 1 + i;
        tensor.allow_content_inequality = i + state.free_to_differ >= state.tensors.size();
        std::memcpy(tensor.hash.data(), &state.tensors[i], sizeof state.tensors[i]);
        offer.tensors.push_back(std::move(tensor));
    }
    return offer;
}

}  // namespace

Cluster::Cluster(std::uint64_t seed, const NetworkOptions &network, const protocol::MasterOptions &master)
    : seed_(seed), rng_(seed), network_(network), master_options_(master), data_(std::make_unique<DataPlane>(*this)) {
    abort_on_broken_invariants(true);
    start_master();
}

Cluster::~Cluster() = default;

Duration Cluster::delay() {
    if (network_.spike_per_mille > 0 && rng_.per_mille(network_.spike_per_mille))
        return rng_.between(network_.delay_max, std::max(network_.delay_max, network_.spike_max));
    return rng_.between(network_.delay_min, network_.delay_max);
}

Node &Cluster::add_node(GroupId group, std::string name, Island island) {
    auto node = std::make_unique<Node>();
    node->index = nodes_.size();
    node->name = name.empty() ? "n" + std::to_string(node->index) : std::move(name);
    node->group = group;
    node->island = island;
    protocol::PeerOptions options;
    options.group = group;
    options.island = island.number;
    options.island_peers = island.peers;
    options.advertised.port = static_cast<std::uint16_t>(1000 + node->index);
    node->peer = std::make_unique<protocol::Peer>(options);
    nodes_.push_back(std::move(node));
    return *nodes_.back();
}

Node *Cluster::owner(PeerId id) {
    const auto found = owners_.find(id);
    return found == owners_.end() ? nullptr : found->second;
}

// --------------------------------------------------------------------------------------------------------------- applications --

CallId Cluster::call(Node &node, CallKind kind, Done done, Tag tag, std::uint64_t spec_hash, wire::Strategy strategy,
                     op::LossPolicy fault) {
    const CallId id{next_call_++};
    const CallInfo info{id, kind, tag, queue_.now()};
    node.calls[id] = info;
    node.waiters[id] = std::move(done);
    observe([&](Observer &o) { o.on_call(node, info); });
    switch (kind) {
    case CallKind::connect: step(node, protocol::Connect{id}); break;
    case CallKind::update: step(node, protocol::UpdateTopology{id}); break;
    case CallKind::ask: step(node, protocol::ArePending{id}); break;
    case CallKind::optimize: step(node, protocol::OptimizeTopology{id}); break;
    case CallKind::reduce:
        data_->announce(id, spec_hash, mix(node.peer->id().value, id.value), fault);
        step(node, protocol::PostReduce{id, tag, fault});
        break;
    case CallKind::sync:
        data_->offer(node);
        step(node, protocol::Synchronize{id, offer_of(node.state, strategy)});
        break;
    case CallKind::graph: step(node, protocol::SetGraph{id, node.graph}); break;
    }
    return id;
}

void Cluster::abort_calls(Node &node) {
    observe([&](Observer &o) { o.on_abort(node); });
    step(node, protocol::AbortCalls{});
}

void Cluster::leave(Node &node) { step(node, protocol::LeaveRun{}); }

void Cluster::complete(Node &node, const protocol::Complete &done) {
    const auto found = node.calls.find(done.call);
    if (found == node.calls.end()) return observe([&](Observer &o) { o.on_stray_complete(node, done); });
    const CallInfo info = found->second;
    node.calls.erase(found);
    if (info.kind == CallKind::sync && done.code == pcclSuccess) node.state.revision = done.revision;
    observe([&](Observer &o) { o.on_complete(node, info, done); });
    auto waiter = std::move(node.waiters.extract(done.call).mapped());
    // The caller's thread wakes up after a delay: the state machine is never entered recursively.
    at_node(node, Duration(0), [waiter = std::move(waiter), done] { waiter(done); });
}

// --------------------------------------------------------------------------------------------------------------------- faults --

void Cluster::crash(Node &node, Crash kind) {
    if (!node.alive) return;
    observe([&](Observer &o) { o.on_world_event(node.name + (kind == Crash::silent ? " dies silently" : " dies")); });
    node.alive = false;
    node.backlog.clear();
    node.calls.clear();
    node.waiters.clear();
    data_->on_crash(node, kind == Crash::silent);
    if (node.conn.value == 0) return;
    Conn &conn = *conns_[node.conn.value - 1];
    node.conn = {};
    conn.up.lost_from = conn.up.arrived + rng_.below(conn.up.sent - conn.up.arrived + 1);
    if (kind == Crash::reset) end_up(conn, "connection reset");
}

void Cluster::hang(Node &node) {
    if (!node.alive || node.hung) return;
    node.hung = true;
    observe([&](Observer &o) { o.on_world_event(node.name + " hangs"); });
}

void Cluster::resume(Node &node) {
    if (!node.alive || !node.hung) return;
    node.hung = false;
    observe([&](Observer &o) { o.on_world_event(node.name + " resumes"); });
    while (node.alive && !node.hung && !node.backlog.empty()) {
        auto action = std::move(node.backlog.front());
        node.backlog.pop_front();
        action();
    }
}

void Cluster::at_node(Node &node, Duration delay, EventQueue::Action action) {
    queue_.after(delay, [this, &node, action = std::move(action)]() mutable { run_at_node(node, std::move(action)); });
}

void Cluster::run_at_node(Node &node, EventQueue::Action action) {
    if (!node.alive) return;
    if (node.hung)
        node.backlog.push_back(std::move(action));
    else
        action();
}

// ---------------------------------------------------------------------------------------------------------------------- peers --

void Cluster::step(Node &node, const protocol::PeerInput &input) {
    protocol::PeerEffects effects;
    node.peer->step(queue_.now(), input, effects);
    for (auto &effect : effects) {
        if (tamper_peer && !tamper_peer(node, effect)) continue;
        observe([&](Observer &o) { o.on_effect(node, effect); });
        carry_out(node, effect);
    }
    plan_tick(node);
}

void Cluster::carry_out(Node &node, protocol::PeerEffect &effect) {
    struct Shell {
        Cluster &cluster;
        Node &node;
        void operator()(protocol::DialMaster &) { cluster.dial_master(node); }
        void operator()(protocol::HangUp &) { cluster.hang_up(node); }
        void operator()(protocol::SendToMaster &e) { cluster.send_up(node, e.message); }
        void operator()(protocol::Complete &e) { cluster.complete(node, e); }
        void operator()(protocol::MakeLink &e) { cluster.data_->make_link(node, e.link); }
        void operator()(protocol::DropLink &e) { cluster.data_->drop_link(node, e.other); }
        void operator()(protocol::DropAllLinks &) { cluster.data_->drop_all(node); }
        void operator()(protocol::StartEpoch &e) { cluster.data_->start_epoch(node, e); }
        void operator()(protocol::StartOp &e) { cluster.data_->start_op(node, e); }
        void operator()(protocol::EndOp &e) { cluster.data_->end_op(node, e.op); }
        void operator()(protocol::CarryOps &e) { cluster.data_->carry_ops(node, e); }
        void operator()(protocol::DropTags &e) { cluster.data_->drop_tags(node, e); }
        void operator()(protocol::StartProbe &e) { cluster.data_->start_probe(node, e.probe); }
        void operator()(protocol::StartPull &e) { cluster.data_->start_pull(node, e.plan); }
        void operator()(protocol::EndSync &e) { cluster.data_->end_sync(node, e); }
        void operator()(protocol::ReportProgress &e) { cluster.data_->examine(node, e); }
        void operator()(protocol::Log &) {}
    };
    std::visit(Shell{*this, node}, effect);
}

void Cluster::plan_tick(Node &node) {
    const auto due = node.peer->next_timeout();
    if (!due || (node.tick_at && *node.tick_at <= *due && *node.tick_at > queue_.now())) return;
    const Time when = std::max(*due, queue_.now());
    node.tick_at = when;
    queue_.at(when, [this, &node, when] {
        run_at_node(node, [this, &node, when] {
            if (node.tick_at != when) return;  // an earlier tick was planned since then
            node.tick_at.reset();
            step(node, protocol::PeerTick{});
        });
    });
}

// -------------------------------------------------------------------------------------------------------- control connections --

Time Cluster::arrival(const Node &node, Channel &channel, bool up) {
    channel.last = std::max({channel.last, queue_.now() + delay(), up ? node.up_blocked_until : node.down_blocked_until});
    return channel.last;
}

void Cluster::cut(Node &node, bool up, bool down, Duration time) {
    if (!node.alive) return;
    observe([&](Observer &o) {
        o.on_world_event("the path of " + node.name + (up ? " to the master" : "") + (up && down ? " and" : "") +
                         (down ? " from the master" : "") + " is cut for " + to_string(time));
    });
    if (up) node.up_blocked_until = queue_.now() + time;
    if (down) node.down_blocked_until = queue_.now() + time;
}

void Cluster::dial_master(Node &node) {
    conns_.push_back(std::make_unique<Conn>());
    Conn &conn = *conns_.back();
    conn.id = ConnId{conns_.size()};
    conn.node = &node;
    node.conn = conn.id;
    const auto still = [&node, &conn] { return node.conn == conn.id; };
    const auto refused = [this, &node, &conn, still] {
        conn.gone = true;
        at_node(node, delay(), [this, &node, still] {
            if (!still()) return;
            node.conn = {};
            step(node, protocol::MasterDown{"connection refused"});
        });
    };
    if (rng_.per_mille(network_.dial_fails_per_mille)) return refused();
    queue_.at(arrival(*conn.node, conn.up, true), [this, &conn, &node, still, refused] {
        if (conn.gone) return;
        if (!master_) return refused();
        SocketAddress from;
        from.ip.octets = {127, 0, 0, 1};
        from.port = static_cast<std::uint16_t>(conn.id.value);
        step_master(protocol::Connected{conn.id, from});
        at_node(node, delay(), [this, &node, still] {
            if (still()) step(node, protocol::MasterUp{});
        });
    });
}

void Cluster::hang_up(Node &node) {
    if (node.conn.value == 0) return;
    Conn &conn = *conns_[node.conn.value - 1];
    node.conn = {};
    end_up(conn, "connection closed");
}

void Cluster::end_up(Conn &conn, const char *why) {
    queue_.at(arrival(*conn.node, conn.up, true), [this, &conn, why] {
        if (conn.gone) return;
        conn.gone = true;
        if (conn.master_closed && !network_.delivers_closing) return;
        observe([&](Observer &o) { o.on_master_closes(*conn.node, conn.peer, why); });
        step_master(protocol::Disconnected{conn.id, why});
    });
}

void Cluster::send_up(Node &node, const wire::ToMaster &message) {
    if (node.conn.value == 0) return;
    Conn &conn = *conns_[node.conn.value - 1];
    const auto number = conn.up.sent++;
    queue_.at(arrival(*conn.node, conn.up, true),
              [this, &conn, number, bytes = wire::encode(message)] { arrive_up(conn, number, bytes); });
}

void Cluster::arrive_up(Conn &conn, std::uint64_t number, const wire::Bytes &bytes) {
    ++conn.up.arrived;
    if (number >= conn.up.lost_from || conn.gone || (conn.master_closed && !network_.delivers_closing)) return;
    conn.up.frames.append(bytes);
    std::span<const std::byte> frame;
    while (!conn.gone && conn.up.frames.next(frame) == wire::FrameBuffer::Next::frame) {
        protocol::Received received{conn.id, {}};
        if (!wire::decode(frame, received.message)) throw std::logic_error("a peer's message does not decode");
        observe([&](Observer &o) { o.on_master_receives(*conn.node, received.message); });
        step_master(received);
    }
}

void Cluster::send_down(Conn &conn, wire::ToPeer message) {
    if (const auto *welcome = std::get_if<wire::Welcome>(&message)) {
        conn.peer = welcome->you;
        owners_[welcome->you] = conn.node;
    }
    observe([&](Observer &o) { o.on_master_sends(*conn.node, conn.peer, message); });
    if (tamper_master && !tamper_master(*conn.node, message)) return;
    Node &node = *conn.node;
    const auto number = conn.down.sent++;
    queue_.at(arrival(*conn.node, conn.down, false), [this, &node, &conn, number, bytes = wire::encode(message)]() mutable {
        ++conn.down.arrived;
        if (number >= conn.down.lost_from) return;
        run_at_node(node, [this, &node, &conn, bytes = std::move(bytes)] {
            if (node.conn != conn.id) return;
            conn.down.frames.append(bytes);
            std::span<const std::byte> frame;
            while (conn.down.frames.next(frame) == wire::FrameBuffer::Next::frame) {
                protocol::FromMaster input;
                if (!wire::decode(frame, input.message)) throw std::logic_error("a master's message does not decode");
                observe([&](Observer &o) { o.on_peer_receives(node, input.message); });
                if (!node.alive) return;  // killed by a fault that is tied to this message
                step(node, input);
                if (node.conn != conn.id) return;
            }
        });
    });
}

void Cluster::close_down(Conn &conn, const std::string &why) {
    if (conn.master_closed) return;
    conn.master_closed = true;
    observe([&](Observer &o) { o.on_master_closes(*conn.node, conn.peer, why); });
    Node &node = *conn.node;
    queue_.at(arrival(*conn.node, conn.down, false), [this, &node, &conn] {
        run_at_node(node, [this, &node, &conn] {
            if (node.conn != conn.id) return;
            node.conn = {};
            step(node, protocol::MasterDown{"the master closed the connection"});
        });
    });
}

// --------------------------------------------------------------------------------------------------------------------- master --

void Cluster::start_master() {
    std::optional<protocol::Record> record;
    if (!journal_.empty()) {
        const auto known = protocol::decode_record(journal_);
        if (!known) throw std::logic_error("the journal cannot be read: " + known.error().what);
        record = *known;
    }
    master_ = std::make_unique<protocol::Master>(master_options_, secrets(seed_ ^ 0x5ec2e7 ^ (master_starts_++ << 40)), record);
    master_tick_at_.reset();
    plan_master_tick();
}

void Cluster::crash_master(Duration away) {
    dies_within_.reset();
    if (!master_) return;
    observe([&](Observer &o) { o.on_world_event("the master dies"); });
    master_.reset();
    for (auto &conn : conns_) {
        if (conn->gone && conn->master_closed) continue;
        const bool was_closed = conn->master_closed;
        conn->gone = conn->master_closed = true;
        Node &node = *conn->node;
        if (node.conn != conn->id || was_closed) continue;
        // Some of the messages that it sent last are lost.
        conn->down.lost_from = conn->down.arrived + rng_.below(conn->down.sent - conn->down.arrived + 1);
        queue_.at(arrival(node, conn->down, false), [this, &node, id = conn->id] {
            run_at_node(node, [this, &node, id] {
                if (node.conn != id) return;
                node.conn = {};
                step(node, protocol::MasterDown{"the master closed the connection"});
            });
        });
    }
    queue_.after(away, [this] {
        observe([&](Observer &o) { o.on_world_event("the master is started again"); });
        start_master();
    });
}

void Cluster::step_master(const protocol::MasterInput &input) {
    if (!master_) return;
    protocol::MasterEffects effects;
    master_->step(queue_.now(), input, effects);
    std::size_t carried_out = 0;
    for (auto &effect : effects) {
        if (dies_within_ && carried_out++ >= dies_within_->first) return crash_master(dies_within_->second);
        if (auto *persist = std::get_if<protocol::Persist>(&effect)) journal_ = protocol::encode(*persist->record);
        if (auto *send = std::get_if<protocol::SendToPeer>(&effect))
            send_down(*conns_.at(send->conn.value - 1), std::move(send->message));
        if (auto *close = std::get_if<protocol::CloseConnection>(&effect))
            close_down(*conns_.at(close->conn.value - 1), close->why);
        if (auto *note = std::get_if<protocol::Log>(&effect))
            observe([&](Observer &o) { o.on_master_note(note->level, note->text); });
    }
    plan_master_tick();
}

void Cluster::plan_master_tick() {
    if (!master_) return;
    const Time due = std::max(master_->next_timeout(), queue_.now());
    if (master_tick_at_ && *master_tick_at_ <= due) return;
    master_tick_at_ = due;
    queue_.at(due, [this, due] {
        if (master_tick_at_ != due) return;
        master_tick_at_.reset();
        step_master(protocol::MasterTick{});
    });
}

}  // namespace pccl::sim
