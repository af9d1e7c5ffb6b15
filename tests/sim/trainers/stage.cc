#include "sim/trainers/stage.h"

#include <algorithm>

#include "peer/shard.h"
#include "sim/data_plane.h"
#include "sim/trainers/collectives.h"

namespace pccl::sim {

std::unique_ptr<train::Collectives> Stage::Actor::collectives() { return std::make_unique<SimulatedCollectives>(*this); }

void Stage::Actor::spend(Duration time) {
    if (dead()) return;
    const Time until = stage_.now() + time;
    stage_.wake(*this, *stage_.turn_, time);
    stage_.await([&] { return stage_.now() >= until || dead(); });
}

void Stage::Actor::leave() {
    if (!dead()) stage_.cluster_.leave(node_);
}

/// The call may outlive its trainer if the trainer has aborted it.
void Stage::Actor::begin(CallKind kind, const std::shared_ptr<Call> &call, wire::Strategy strategy, Tag tag,
                         std::uint64_t spec_hash) {
    call->id = stage_.cluster_.call(
        node_, kind,
        [&stage = stage_, call](const protocol::Complete &done) {
            call->answer = done;
            call->done = true;
            if (call->waiting) stage.resume(*call->waiting);
        },
        tag, spec_hash, strategy);
}

protocol::Complete Stage::Actor::wait(Call &call) {
    call.waiting = stage_.turn_;
    stage_.await([&] { return call.done || dead(); });
    if (!call.done) call.answer.code = gone().code, call.answer.why = gone().why;
    return call.answer;
}

protocol::Complete Stage::Actor::call(CallKind kind, wire::Strategy strategy) {
    const auto made = std::make_shared<Call>();
    if (!dead()) begin(kind, made, strategy);
    return wait(*made);
}

Stage::~Stage() {
    for (const auto &actor : actors_) {
        kill(*actor);
        for (const auto &thread : actor->threads_)
            thread->thread.join();
    }
}

Stage::Actor &Stage::add(Duration at, std::function<void(Actor &)> act) {
    Actor &actor = *actors_.emplace_back(std::make_unique<Actor>(*this, cluster_.add_node(GroupId{})));
    start(actor, at, [&actor, act = std::move(act)] { act(actor); });
    return actor;
}

Stage::Thread &Stage::start(Actor &actor, Duration after, std::function<void()> act) {
    Thread &started = *actor.threads_.emplace_back(std::make_unique<Thread>());
    started.thread = std::thread([this, &started, act = std::move(act)] {
        {
            std::unique_lock lock(mutex_);
            started.has_turn.wait(lock, [&] { return turn_ == &started; });
        }
        act();
        const std::lock_guard lock(mutex_);
        started.ended = true;
        turn_ = nullptr;
        given_back_.notify_one();
    });
    wake(actor, started, after);
    return started;
}

void Stage::wake(Actor &actor, Thread &thread, Duration after) {
    cluster_.at_node(actor.node_, after, [this, &thread] { resume(thread); });
}

/// The simulation gives the turn to a thread that waits for it, and waits until the thread returns it.
void Stage::resume(Thread &thread) {
    std::unique_lock lock(mutex_);
    if (!thread.waits || thread.ended) return;
    thread.waits = false;
    turn_ = &thread;
    thread.has_turn.notify_one();
    given_back_.wait(lock, [&] { return turn_ == nullptr; });
}

void Stage::pause() {
    std::unique_lock lock(mutex_);
    Thread &me = *turn_;
    me.waits = true;
    turn_ = nullptr;
    given_back_.notify_one();
    me.has_turn.wait(lock, [&] { return turn_ == &me; });
}

void Stage::kill(Actor &actor) {
    cluster_.crash(actor.node_, Cluster::Crash::reset);
    const auto ended = [](const auto &thread) { return thread->ended; };
    while (!std::ranges::all_of(actor.threads_, ended)) {
        for (std::size_t i = 0; i < actor.threads_.size(); ++i)  // threads may start other threads
            resume(*actor.threads_[i]);
    }
}

void Stage::break_link(Actor &a, Actor &b) { cluster_.data().break_link(a.node_, b.node_); }

bool Stage::run(Duration limit, const std::function<void()> &after_event) {
    auto &queue = cluster_.queue();
    const Time end = queue.now() + limit;
    const auto over = [&] {
        return std::ranges::all_of(actors_, [](const auto &actor) { return actor->threads_.front()->ended || actor->dead(); });
    };
    while (!over()) {
        if (queue.empty() || queue.next_time() > end) return false;
        queue.run_next();
        after_event();
    }
    return true;
}

void Stage::note_message(const Node &node, std::size_t kind) {
    ++messages_;
    digest_ = mix(mix(digest_, static_cast<std::uint64_t>(now().since_origin.count())), mix(node.index, kind));
}

void Stage::on_peer_receives(const Node &node, const wire::ToPeer &message) {
    note_message(node, message.index());
    actors_.at(node.index)->mail_.on_told(message);
}

void Stage::on_link(const Node &node, PeerId other, bool up) { actors_.at(node.index)->mail_.on_link(other, up); }

void Stage::on_news(const Node &node) {
    Actor &actor = *actors_.at(node.index);
    for (Thread *thread : actor.at_mail_)
        wake(actor, *thread);
}

/// Records the members of each node's ring. An operation that begins with the shards of other members fails, as in the library's
/// engine.
void Stage::on_effect(const Node &node, const protocol::PeerEffect &effect) {
    actors_.at(node.index)->mail_.on_effect(effect);
    if (const auto *epoch = std::get_if<protocol::StartEpoch>(&effect)) rings_[node.index] = epoch->ring;
    if (std::holds_alternative<protocol::DropAllLinks>(effect)) rings_.erase(node.index);
    const auto *begun = std::get_if<protocol::StartOp>(&effect);
    if (!begun) return;
    const auto &given = given_.at(begun->call);
    const bool divided = given.kind != train::Reduce::Kind::all_reduce;
    if (divided && given.shard.membership != shard_at(node, given.count).membership)
        cluster_.data().announce(begun->call, kStaleShard, 0, op::LossPolicy::retry);
}

pcclShard_t Stage::shard_at(const Node &node, std::size_t count) const {
    const auto shard = peer::shard_of(count, rings_.at(node.index), node.peer->id());
    return {shard.span.begin, shard.span.count, shard.membership, shard.members, shard.place};
}

/// Gives the result of the operation to the caller.
train::Bytes Stage::result(CallId call, const pcclReduceDescriptor_t &what) const {
    const std::size_t size = train::size_of(what.src_descriptor.datatype);
    std::vector<const void *> sends;
    train::Bytes gathered(what.count * size);
    for (const CallId member : members_.at(op_of_.at(call))) {
        const Given &given = given_.at(member);
        sends.push_back(given.data.data());
        if (given.kind == train::Reduce::Kind::all_gather)
            std::ranges::copy(given.data, gathered.begin() + static_cast<std::ptrdiff_t>(given.shard.first * size));
    }
    const Given &mine = given_.at(call);
    if (mine.kind == train::Reduce::Kind::all_gather) return gathered;
    const auto whole = train::reduced(sends, what);
    if (mine.kind == train::Reduce::Kind::all_reduce) return whole;
    const auto first = whole.begin() + static_cast<std::ptrdiff_t>(mine.shard.first * size);
    return {first, first + static_cast<std::ptrdiff_t>(mine.shard.elements * size)};
}

}  // namespace pccl::sim
