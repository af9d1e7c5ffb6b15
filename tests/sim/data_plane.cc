#include "data_plane.h"

#include <algorithm>

#include "collective/repair_plan.h"

namespace pccl::sim {

using protocol::LinkEvent;

namespace {

constexpr Duration kDialLimit = std::chrono::seconds(8);  ///< a link that is not up by then has failed
constexpr Duration kPullRetry = std::chrono::milliseconds(500);
constexpr Duration kSilence = std::chrono::seconds(10);  ///< a link without an acknowledgement for this long breaks
constexpr Duration kSettled = std::chrono::seconds(90);  ///< by then the master has retried a pair that it had given up

std::uint64_t content_of(const std::array<std::uint8_t, 16> &hash) {
    std::uint64_t content = 0;
    std::memcpy(&content, hash.data(), sizeof content);
    return content;
}

}  // namespace

DataPlane::NodeData &DataPlane::of(const Node &node) {
    if (data_.size() <= node.index) data_.resize(node.index + 1);
    return data_[node.index];
}

// ---------------------------------------------------------------------------------------------------------------------- links --

DataPlane::Side *DataPlane::side(Node &node, PeerId other) {
    auto &links = of(node).links;
    const auto found = links.find(other);
    return found == links.end() ? nullptr : &found->second;
}

bool DataPlane::up(Node &node, PeerId other) {
    const Side *mine = side(node, other);
    return mine && mine->state == Side::State::up;
}

void DataPlane::notify(Node &node, const LinkEvent &event) {
    cluster_.observe([&](Observer &o) { o.on_link(node, event.other, event.up); });
    cluster_.step(node, event);
}

void DataPlane::report(Node &node, PeerId other, std::uint32_t attempt, bool is_up, const char *why, Duration delay) {
    cluster_.at_node(node, delay, [this, &node, other, attempt, is_up, why] {
        const Side *mine = side(node, other);
        if (!mine || mine->attempt != attempt) return;
        notify(node, {other, attempt, is_up, why, 0});
    });
}

/// The node notices after `delay` that its side of a link does not work.
void DataPlane::lose_side(Node &node, PeerId other, std::uint32_t attempt, const char *why, Duration delay) {
    cluster_.at_node(node, delay, [this, &node, other, attempt, why] {
        Side *mine = side(node, other);
        if (!mine || mine->attempt != attempt || mine->state == Side::State::dead) return;
        mine->state = Side::State::dead;
        notify(node, {other, attempt, false, why, 0});
    });
}

void DataPlane::make_link(Node &node, const wire::OpenLink &link) {
    drop_link(node, link.other);
    Node *other = cluster_.owner(link.other);
    of(node).links[link.other] = {Side::State::waiting, link.attempt, link.dial, link.token, other->index, false};
    cluster_.at_node(node, kDialLimit, [this, &node, peer = link.other, attempt = link.attempt] {
        const Side *mine = side(node, peer);
        if (mine && mine->state != Side::State::up) lose_side(node, peer, attempt, "nothing came of it in time", Duration(0));
    });
    if (!link.dial) return try_match(node, link.other);
    cluster_.at_node(node, cluster_.delay(),
                     [this, &node, peer = link.other, attempt = link.attempt] { dialled(node, peer, attempt); });
}

void DataPlane::dialled(Node &node, PeerId other, std::uint32_t attempt) {
    Side *mine = side(node, other);
    if (!mine || mine->attempt != attempt || mine->state != Side::State::waiting) return;
    Node &callee = *cluster_.owner(other);
    if (!reachable(node, callee)) return lose_side(node, other, attempt, "no route to host", cluster_.delay());
    if (!paths_.connects(node.index, callee.index, cluster_.queue().now())) return;  // until the limit
    if (!callee.alive) return lose_side(node, other, attempt, "connection refused", cluster_.delay());
    mine->state = Side::State::dialled;
    try_match(callee, node.peer->id());
}

/// The link is up once the acceptor has received OpenLink and the connection has arrived. The dialler learns of it last.
void DataPlane::try_match(Node &acceptor, PeerId dialler) {
    cluster_.at_node(acceptor, cluster_.delay(), [this, &acceptor, dialler] {
        Side *mine = side(acceptor, dialler);
        Node &caller = *cluster_.owner(dialler);
        if (!mine || mine->dial || mine->state != Side::State::waiting || !caller.alive) return;
        const PeerId me = acceptor.peer->id();
        Side *theirs = side(caller, me);
        if (!theirs || !theirs->dial || theirs->state != Side::State::dialled || theirs->token != mine->token) return;
        mine->state = Side::State::up;
        report(acceptor, dialler, mine->attempt, true, "", Duration(0));
        cluster_.at_node(caller, cluster_.delay(), [this, &caller, me, attempt = theirs->attempt] {
            Side *own = side(caller, me);
            if (!own || own->attempt != attempt || own->state != Side::State::dialled) return;
            own->state = Side::State::up;
            notify(caller, {me, attempt, true, "", 0});
        });
    });
}

void DataPlane::drop_link(Node &node, PeerId other) {
    auto &links = of(node).links;
    const auto found = links.find(other);
    if (found == links.end()) return;
    const Side old = found->second;
    links.erase(found);
    Node &far = *cluster_.nodes()[old.other];
    const Side *theirs = side(far, node.peer->id());
    if (far.alive && theirs && theirs->attempt == old.attempt && theirs->state != Side::State::waiting &&
        delivers_closing(node, far))
        lose_side(far, node.peer->id(), old.attempt, "closed by the other side", cluster_.delay());
}

void DataPlane::drop_all(Node &node) {
    while (!of(node).links.empty())
        drop_link(node, of(node).links.begin()->first);
    auto &data = of(node);
    data.early.clear();
    data.carried.clear();
    data.repaired.clear();
    data.epoch = {};
    data.ring.clear();
}

void DataPlane::break_link(Node &a, Node &b) {
    if (!a.alive || !b.alive) return;
    Side *forth = side(a, b.peer->id());
    Side *back = side(b, a.peer->id());
    cluster_.observe([&](Observer &o) { o.on_world_event("the link " + a.name + " - " + b.name + " breaks"); });
    // Data in flight is lost at once; each side notices after a delay of its own.
    for (auto &[mine, node, other] : {std::tuple{forth, &a, &b}, std::tuple{back, &b, &a}}) {
        if (!mine || mine->state == Side::State::dead) continue;
        mine->state = Side::State::dead;
        report(*node, other->peer->id(), mine->attempt, false, "connection reset", cluster_.delay());
    }
}

void DataPlane::lose_path(Node &from, Node &to, Paths::Loss what, Duration time) {
    auto &queue = cluster_.queue();
    const bool for_good = time == kForGood;
    paths_.lose(from.index, to.index, what, queue.now(), for_good ? Paths::kNever : queue.now() + time);
    cluster_.observe([&](Observer &o) {
        o.on_world_event("the path from " + from.name + " to " + to.name + " loses " +
                         (what == Paths::Loss::all ? "everything" : "what is large") +
                         (for_good ? " for good" : " for " + to_string(time)));
        o.on_path_lost(from, to);
    });
    if (for_good) return;
    queue.after(time + kSettled, [this, &from, &to, since = queue.now() + time] {
        const auto well = [&](const Node &a, const Node &b) { return !paths_.bad_within(a.index, b.index, since); };
        if (well(from, to) && well(to, from)) cluster_.observe([&](Observer &o) { o.on_path_settled(from, to); });
    });
}

/// The end of a connection is a small packet that is sent once or twice, so it passes unless the path loses everything.
bool DataPlane::delivers_closing(const Node &node, const Node &other) const {
    return paths_.loss(node.index, other.index, cluster_.queue().now()) != Paths::Loss::all;
}

/// Something was sent over a link. If nothing is acknowledged for kSilence, the sender closes the link.
void DataPlane::await_acknowledgement(Node &node, PeerId other) {
    Side *mine = side(node, other);
    const Time sent = cluster_.queue().now();
    if (!mine || mine->state != Side::State::up || mine->unacknowledged || paths_.well(node.index, mine->other, sent)) return;
    mine->unacknowledged = true;
    cluster_.at_node(node, kSilence, [this, &node, other, attempt = mine->attempt, sent] {
        Side *own = side(node, other);
        if (!own || own->attempt != attempt || own->state != Side::State::up) return;
        own->unacknowledged = false;
        // If the path was good in between, the data arrived; data sent since then may not have arrived.
        if (!paths_.bad_since(node.index, own->other, sent, cluster_.queue().now())) return await_acknowledgement(node, other);
        Node &far = *cluster_.nodes()[own->other];
        lose_side(node, other, attempt, "nothing was acknowledged for 10 s", Duration(0));
        if (far.alive && delivers_closing(node, far))
            lose_side(far, node.peer->id(), attempt, "connection reset", cluster_.delay());
    });
}

std::vector<std::pair<Node *, Node *>> DataPlane::live_links() {
    std::vector<std::pair<Node *, Node *>> links;
    for (auto &node : cluster_.nodes()) {
        if (!node->alive) continue;
        for (const auto &[peer, mine] : of(*node).links) {
            Node *other = cluster_.nodes()[mine.other].get();
            if (mine.state == Side::State::up && other->alive && node->index < other->index)
                links.emplace_back(node.get(), other);
        }
    }
    return links;
}

void DataPlane::on_crash(Node &node, bool silent) {
    for (const auto &[peer, mine] : of(node).links) {
        Node &far = *cluster_.nodes()[mine.other];
        const Side *theirs = side(far, node.peer->id());
        if (!silent && far.alive && theirs && theirs->attempt == mine.attempt)
            lose_side(far, node.peer->id(), mine.attempt, "connection reset", cluster_.delay());
    }
    of(node) = {};
}

// ----------------------------------------------------------------------------------------------------------------- operations --

void DataPlane::start_epoch(Node &node, const protocol::StartEpoch &epoch) {
    auto &data = of(node);
    data.epoch = epoch.epoch;
    data.ring = epoch.ring;
    data.begun.clear();
    data.floor = 0;
    data.repaired.clear();
    for (const auto &op : epoch.repaired)
        data.repaired[op.tag] = op;
    std::erase_if(data.early, [&](const auto &entry) { return entry.first.epoch < epoch.epoch; });
}

void DataPlane::start_op(Node &node, const protocol::StartOp &start) {
    auto &data = of(node);
    const auto [spec_hash, content, fault] = announced_.at(start.call);
    Op &op = data.ops[start.op] = {start.call, spec_hash, false, {}};
    data.begun[start.op.tag] = start.op.seq + 1;
    if (spec_hash == kStaleShard)
        return break_op(node, start.op, pcclRankConnectionLost, "the members have changed since it was asked for");
    op.elements.resize(fault == op::LossPolicy::repair ? kElements : 1);
    if (fault == op::LossPolicy::repair) plan_repair(node, start.op, op);
    auto early = data.early.extract(start.op);
    for (std::size_t i = 0; i < op.elements.size(); ++i) {
        if (op.elements[i].missing.empty())
            accept(node, start.op, {node.peer->id(), spec_hash, content, i});
        else if (op.elements[i].final())
            hand_on(node, start.op, op, i);
    }
    finish_if_final(node, start.op, op);
    if (early.empty()) return;
    for (const auto &contribution : early.mapped())
        accept(node, start.op, contribution);
}

/// The operation accepts and sends nothing more, and the peer reports a fault, so that it fails everywhere. `own`: the fault of
/// this node's program alone.
void DataPlane::break_op(Node &node, const OpId &id, pcclResult_t code, const std::string &why, bool own) {
    of(node).ops.at(id).broken = true;
    cluster_.at_node(node, cluster_.delay(),
                     [this, &node, broken = protocol::OpBroken{id, code, why, own}] { cluster_.step(node, broken); });
}

/// The state from which a repair continues: elements that are final at some member are not reduced again.
void DataPlane::plan_repair(Node &node, const OpId &id, Op &op) {
    auto &data = of(node);
    const auto carried = data.carried.extract(op.call);
    const auto found = data.repaired.find(id.tag);
    if (id.seq != 0 || found == data.repaired.end()) return;
    std::vector<op::FinalRanges> held(data.ring.size());
    for (const auto &holding : found->second.holdings) {
        const auto rank = std::ranges::find(data.ring, holding.member) - data.ring.begin();
        held[static_cast<std::size_t>(rank)] = holding.final;
    }
    const auto plan = collective::plan_repair(kElements, held, 1);
    std::vector<bool> open(kElements);
    for (const auto &span : plan.open)
        std::fill_n(open.begin() + static_cast<std::ptrdiff_t>(span.begin), span.count, true);
    for (std::size_t i = 0; i < kElements; ++i) {
        if (open[i]) continue;
        if (!carried.empty()) op.elements[i] = carried.mapped()[i];
        op.elements[i].missing.assign(data.ring.size(), false);
    }
    for (const auto &piece : plan.missing) {
        for (std::size_t rank = 0; rank < data.ring.size(); ++rank)
            op.elements[piece.span.begin].missing[rank] = !piece.held[rank];
    }
}

void DataPlane::end_op(Node &node, const OpId &op) {
    auto &data = of(node);
    data.ops.erase(op);
    data.early.erase(op);
}

void DataPlane::drop_tags(Node &node, const protocol::DropTags &drop) {
    auto &data = of(node);
    if (drop.floor <= data.floor) return;
    const std::set<Tag> keep(drop.keep.begin(), drop.keep.end());
    for (const Tag tag : keep)
        data.begun.try_emplace(tag, data.floor);
    std::erase_if(data.begun, [&](const auto &entry) { return !keep.contains(entry.first); });
    data.floor = drop.floor;
}

void DataPlane::examine(Node &node, const protocol::ReportProgress &look) {
    auto &data = of(node);
    protocol::ProgressReported examined;
    for (const OpId &id : look.ops) {
        const auto op = data.ops.find(id);
        if (op == data.ops.end()) continue;
        wire::OpProgress progress;
        progress.op = id;
        progress.awaited = true;
        std::set<PeerId> missing;
        for (const Element &element : op->second.elements) {
            progress.received += element.have.size();
            for (const PeerId origin : data.ring) {
                if (!element.final() && !element.have.contains(origin)) missing.insert(origin);
            }
        }
        progress.waits_for.assign(missing.begin(), missing.end());
        examined.progress.ops.push_back(std::move(progress));
    }
    // The real shell answers from its event loop, never from inside the state machine.
    cluster_.at_node(node, Duration(0), [this, &node, examined] { cluster_.step(node, examined); });
}

void DataPlane::carry_ops(Node &node, const protocol::CarryOps &carry) {
    auto &data = of(node);
    protocol::OpsCarried answer;
    for (const OpId &id : carry.ops) {
        Op &op = data.ops.at(id);
        op::FinalRanges final;
        for (std::size_t i = 0; i < op.elements.size(); ++i) {
            if (op.elements[i].final())
                final.push_back({i, 1, static_cast<std::uint32_t>(op.elements[i].took_part.size())});
            else
                op.elements[i] = {};
        }
        data.carried[op.call] = op.elements;
        answer.ops.push_back({id.tag, id.seq, collective::joined(final)});
        end_op(node, id);
    }
    cluster_.at_node(node, Duration(0), [this, &node, answer] { cluster_.step(node, answer); });
}

void DataPlane::accept(Node &node, const OpId &id, const Contribution &contribution) {
    Op &op = of(node).ops.at(id);
    if (op.broken) return;
    if (op.spec_hash != contribution.spec_hash)
        return break_op(node, id, pcclInvalidUsage,
                        "the callers of tag " + std::to_string(id.tag.value) + " disagree on what to reduce");
    if (contribution.took_part.empty()) return accept_value(node, id, op, contribution);
    if (op.elements[contribution.element].final()) return;
    make_final(node, id, op, contribution.element, contribution.took_part, contribution.content);
    hand_on(node, id, op, contribution.element);
    finish_if_final(node, id, op);
}

void DataPlane::accept_value(Node &node, const OpId &id, Op &op, const Contribution &contribution) {
    Element &element = op.elements[contribution.element];
    if (!element.have.emplace(contribution.origin, contribution.content).second) return;
    const auto &ring = of(node).ring;
    const auto me = std::ranges::find(ring, node.peer->id());
    if ((me + 1 == ring.end() ? ring.front() : *(me + 1)) != contribution.origin) send_to_successor(node, id, contribution);
    if (element.have.size() < ring.size()) return;
    std::uint64_t result = mix(mix(id.epoch.value, id.tag.value), mix(id.seq, contribution.element));
    std::set<PeerId> took_part;
    for (const auto &[origin, content] : element.have) {
        result = mix(mix(result, origin.value), content);
        took_part.insert(origin);
    }
    make_final(node, id, op, contribution.element, took_part, result);
    finish_if_final(node, id, op);
}

void DataPlane::make_final(Node &node, const OpId &id, Op &op, std::size_t element, const std::set<PeerId> &took_part,
                           std::uint64_t result) {
    op.elements[element].took_part = took_part;
    op.elements[element].result = result;
    cluster_.observe([&](Observer &o) { o.on_final(node, id, op.call, element, took_part); });
}

void DataPlane::finish_if_final(Node &node, const OpId &id, Op &op) {
    if (results_.contains(op.call) && results_[op.call].first == id) return;
    if (!std::ranges::all_of(op.elements, &Element::final)) return;
    std::uint64_t result = op.elements.size();
    for (const auto &element : op.elements)
        result = mix(result, element.result);
    results_[op.call] = {id, result};
    cluster_.observe([&](Observer &o) { o.on_result(node, id, result); });
    const bool slow = cluster_.rng().per_mille(finish_slow_per_mille);
    cluster_.at_node(node, slow ? Duration(std::chrono::milliseconds(700)) : cluster_.delay(),
                     [this, &node, id] { cluster_.step(node, protocol::OpFinished{id}); });
}

/// Sends a final element to the successor if the successor lacks it.
void DataPlane::hand_on(Node &node, const OpId &id, const Op &op, std::size_t element) {
    const auto &ring = of(node).ring;
    const auto next = static_cast<std::size_t>(std::ranges::find(ring, node.peer->id()) - ring.begin() + 1) % ring.size();
    const Element &what = op.elements[element];
    if (what.missing.empty() || !what.missing[next]) return;
    send_to_successor(node, id, {node.peer->id(), op.spec_hash, what.result, element, what.took_part});
}

void DataPlane::send_to_successor(Node &node, const OpId &id, const Contribution &contribution) {
    const auto &ring = of(node).ring;
    const auto me = std::ranges::find(ring, node.peer->id());
    const PeerId next = me + 1 == ring.end() ? ring.front() : *(me + 1);
    if (!up(node, next)) return;
    Node &receiver = *cluster_.owner(next);
    Contribution sent = contribution;
    if (tamper) tamper(node, receiver, sent.content);
    send(node, next, [this, &node, &receiver, id, sent] {
        const auto op = of(node).ops.find(id);
        const bool torn = op != of(node).ops.end() && op->second.modified && sent.origin == node.peer->id();
        return torn ? ask_again(receiver, node, id) : take_in(receiver, id, sent);
    });
}

void DataPlane::modify_buffer(Node &node, Tag tag) {
    for (auto &[id, op] : of(node).ops) {
        if (id.tag == tag) op.modified = true;
    }
    const std::string what = "the buffer of tag " + std::to_string(tag.value);
    cluster_.observe([&](Observer &o) { o.on_world_event("the program of " + node.name + " modifies " + what); });
}

/// The frame ask_again: the receiver cannot distinguish a damaged path from a modified buffer; the sender can.
void DataPlane::ask_again(Node &receiver, Node &sender, const OpId &id) {
    cluster_.observe([&](Observer &o) {
        o.on_world_event("a frame of " + sender.name + " has a wrong checksum; " + receiver.name + " asks again");
    });
    send(receiver, sender.peer->id(), [this, &sender, id] { copy_again(sender, id); });
}

/// The second copy of a modified buffer does not have the checksum of the first. That fails the operation and no link.
void DataPlane::copy_again(Node &sender, const OpId &id) {
    const auto op = of(sender).ops.find(id);
    if (op == of(sender).ops.end() || op->second.broken) return;
    const std::string what = "the buffer of tag " + std::to_string(id.tag.value) + " was modified";
    break_op(sender, id, pcclInvalidUsage, what + " by the program of " + to_string(sender.peer->id()), true);
}

void DataPlane::take_in(Node &node, const OpId &id, const Contribution &sent) {
    auto &data = of(node);
    if (id.epoch < data.epoch || data.has_ended(id)) return;
    if (data.ops.contains(id))
        accept(node, id, sent);
    else
        data.early[id].push_back(sent);
}

void DataPlane::send(Node &node, PeerId to, EventQueue::Action arrives) {
    if (!up(node, to)) return;
    Node &receiver = *cluster_.owner(to);
    await_acknowledgement(node, to);
    const Link link{&node, &receiver, node.peer->id(), to, side(node, to)->attempt};
    cluster_.at_node(receiver, cluster_.delay(), [this, link, arrives = std::move(arrives)] { deliver(link, arrives); });
}

void DataPlane::deliver(const Link &link, const EventQueue::Action &arrives) {
    Node &receiver = *link.receiver;
    const Side *mine = side(receiver, link.from);
    const Side *theirs = side(*link.sender, link.to);
    if (receiver.peer->id() != link.to || !mine || mine->attempt != link.attempt) return;
    if (theirs && theirs->attempt == link.attempt && theirs->state == Side::State::dead) return;  // lost in flight
    if (mine->state == Side::State::dialled)  // the acceptor's answer was sent earlier but has not arrived here
        return cluster_.at_node(receiver, cluster_.delay(), [this, link, arrives] { deliver(link, arrives); });
    if (mine->state != Side::State::up) return;
    const Time now = cluster_.queue().now();
    if (!paths_.carries(link.sender->index, receiver.index, now)) {
        // TCP retransmits it until it arrives.
        await_acknowledgement(*link.sender, link.to);
        const Time heals = paths_.heals(link.sender->index, receiver.index);
        if (heals == Paths::kNever) return;
        return cluster_.at_node(receiver, heals - now + cluster_.delay(), [this, link, arrives] { deliver(link, arrives); });
    }
    arrives();
}

std::uint64_t DataPlane::result(CallId call) const {
    const auto found = results_.find(call);
    return found == results_.end() ? 0 : found->second.second;
}

// -------------------------------------------------------------------------------------------------------- probes and transfer --

void DataPlane::start_probe(Node &node, const wire::Probe &probe) {
    if (cluster_.rng().per_mille(probe_lost_per_mille)) return;
    const Duration time = Duration(std::chrono::milliseconds(probe.duration_ms)) + cluster_.delay();
    cluster_.at_node(node, time, [this, &node, probe] {
        double mbit = 0;
        if (up(node, probe.to)) {
            const Node &other = *cluster_.owner(probe.to);
            await_acknowledgement(node, probe.to);
            if (path_well(node, other)) mbit = 10 + static_cast<double>(mix(node.index, other.index) % 990);
        }
        cluster_.step(node, protocol::ProbeFinished{probe.round, probe.to, mbit});
    });
}

void DataPlane::offer(Node &node) {
    auto &transfer = of(node).transfer;
    transfer = {};
    transfer.offering = true;
    transfer.content = node.state;
}

void DataPlane::modify_tensor(Node &node, std::uint32_t index) {
    of(node).transfer.modified.insert(index);
    const std::string what = "tensor " + std::to_string(index);
    cluster_.observe([&](Observer &o) { o.on_world_event("the program of " + node.name + " modifies " + what); });
}

void DataPlane::start_pull(Node &node, const wire::SyncPlan &plan) {
    auto &transfer = of(node).transfer;
    transfer.sync = plan.sync;
    transfer.staged.clear();
    transfer.received.clear();
    transfer.missing = plan.pull.size();
    for (auto item : plan.pull) {
        cluster_.rng().shuffle(item.sources);
        pull_tensor(node, plan.sync, plan.in_place, std::move(item), 4);
    }
}

/// Requests the tensor from the last of `item.sources`, and from the one before it if that fails.
void DataPlane::pull_tensor(Node &node, std::uint64_t sync, bool in_place, wire::PullTensor item, int tries_left) {
    if (item.sources.empty()) return pull_failed(node, sync, "no source of tensor " + std::to_string(item.index) + " is left");
    cluster_.at_node(node, cluster_.delay() * 2, [this, &node, sync, in_place, item = std::move(item), tries_left]() mutable {
        auto &mine = of(node).transfer;
        if (mine.sync != sync) return;
        const PeerId from = item.sources.back();
        Node &source = *cluster_.owner(from);
        const auto &theirs = of(source).transfer;
        const bool there = up(node, from) && source.alive;
        const bool silent = there && !path_well(node, source);
        if (silent) {
            await_acknowledgement(node, from);
            await_acknowledgement(source, node.peer->id());
        }
        const std::uint64_t wanted = content_of(item.hash);
        const bool offered =
            theirs.offering && item.index < theirs.content.tensors.size() && theirs.content.tensors[item.index] == wanted;
        const bool received = theirs.sync == sync && theirs.missing == 0 && theirs.received.contains(item.index) &&
                              theirs.received.at(item.index) == wanted;
        const bool serving = there && !silent && !source.hung && (offered || received);
        if (serving && theirs.modified.contains(item.index)) {
            // The receiver requests it once more; the holder finds that the hash of its memory has changed, and sends nothing.
            const std::string why = "tensor " + std::to_string(item.index) + " was modified by the program of " + to_string(from);
            return cluster_.at_node(source, cluster_.delay(), [this, &source, sync, why] {
                cluster_.step(source, protocol::OfferSpoiled{sync, why});
            });
        }
        if (!serving) {
            if (there && tries_left > 0) {
                return cluster_.at_node(node, kPullRetry,
                                        [this, &node, sync, in_place, item = std::move(item), tries_left]() mutable {
                                            pull_tensor(node, sync, in_place, std::move(item), tries_left - 1);
                                        });
            }
            item.sources.pop_back();
            // A silent source gets a request again after all others: it is lost only when its link is lost.
            if (silent) item.sources.insert(item.sources.begin(), from);
            return pull_tensor(node, sync, in_place, std::move(item), silent ? 4 : tries_left);
        }
        const std::uint64_t content = wanted;
        mine.received[item.index] = content;
        if (in_place)
            node.state.tensors[item.index] = content;
        else
            mine.staged[item.index] = content;
        if (--mine.missing == 0) pulled(node, sync);
    });
}

void DataPlane::pulled(Node &node, std::uint64_t sync) {
    cluster_.at_node(node, cluster_.delay(), [this, &node, sync] {
        if (of(node).transfer.sync == sync) cluster_.step(node, protocol::SyncPulled{sync, true, ""});
    });
}

void DataPlane::pull_failed(Node &node, std::uint64_t sync, const std::string &why) {
    cluster_.at_node(node, cluster_.delay(), [this, &node, sync, why] {
        auto &transfer = of(node).transfer;
        if (transfer.sync != sync) return;
        transfer.sync = 0;
        cluster_.step(node, protocol::SyncPulled{sync, false, why});
    });
}

void DataPlane::end_sync(Node &node, const protocol::EndSync &end) {
    auto &transfer = of(node).transfer;
    if (end.committed && end.sync == transfer.sync) {
        for (const auto &[index, content] : transfer.staged)
            node.state.tensors[index] = content;
    }
    transfer = {};
}

}  // namespace pccl::sim
