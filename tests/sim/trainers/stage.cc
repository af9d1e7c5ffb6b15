#include "sim/trainers/stage.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace pccl::sim {

using train::Outcome;

namespace {

Outcome gone() { return {pcclMasterConnectionFailed, "this peer was killed"}; }

/// Names a tensor's content; 0 stands for none.
std::uint64_t name_of_content(const pcclTensorInfo_t &tensor, std::size_t bytes) {
    const std::string_view content(static_cast<const char *>(tensor.data), bytes);
    return std::hash<std::string_view>{}(content) | 1U;
}

}  // namespace

class SimulatedCollectives final : public train::Collectives {
public:
    explicit SimulatedCollectives(Stage::Actor &actor) : stage_(actor.stage_), actor_(actor) {}

    bool connected() override { return !actor_.dead() && actor_.node_.peer->view() != ViewNumber{}; }
    std::uint32_t world() override { return connected() ? actor_.node_.peer->world().group : 0; }
    Outcome connect() override { return outcome(call(CallKind::connect)); }
    Outcome are_peers_pending(bool &pending) override {
        const auto done = call(CallKind::ask);
        pending = done.pending;
        return outcome(done);
    }
    Outcome update_topology() override { return outcome(call(CallKind::update)); }
    Outcome optimize_topology() override { return outcome(call(CallKind::optimize)); }

    Outcome synchronize(pcclSharedState_t &state, pcclSharedStateSyncStrategy_t strategy,
                        pcclSharedStateSyncInfo_t &info) override {
        if (actor_.dead()) return gone();
        auto &modelled = actor_.node_.state;
        modelled = {state.revision, {}, 0};
        for (std::size_t i = 0; i < state.count; ++i) {
            const auto &tensor = state.infos[i];
            const std::size_t bytes = tensor.count * train::size_of(tensor.datatype);
            const auto *data = static_cast<const std::byte *>(tensor.data);
            modelled.tensors.push_back(name_of_content(tensor, bytes));
            stage_.contents_[modelled.tensors.back()] = {data, data + bytes};
            if (tensor.allow_content_inequality) ++modelled.free_to_differ;
        }
        const auto offered = modelled.tensors;
        const auto done = call(CallKind::sync, static_cast<wire::Strategy>(strategy));
        if (done.code != pcclSuccess) return outcome(done);
        state.revision = done.revision;
        for (std::size_t i = 0; i < state.count; ++i) {
            if (modelled.tensors[i] == offered[i]) continue;
            const auto &content = stage_.contents_.at(modelled.tensors[i]);
            std::memcpy(state.infos[i].data, content.data(), content.size());
            info.rx_bytes += content.size();
        }
        return {};
    }

    Outcome shard(std::size_t, pcclShard_t &) override { return {pcclInvalidUsage, "the simulator has no shards"}; }

    Outcome launch(const train::Reduce &reduce) override {
        if (actor_.dead()) return gone();
        auto pending = std::make_shared<Pending>();
        pending->reduce = reduce;
        launched_[reduce.what.tag].push_back(pending);
        const auto *data = static_cast<const std::byte *>(reduce.send);
        const std::size_t bytes = reduce.what.count * train::size_of(reduce.what.src_descriptor.datatype);
        begin(CallKind::reduce, pending, wire::Strategy::enforce_popular, Tag{reduce.what.tag}, reduce.what.count);
        stage_.sent_[pending->id] = {data, data + bytes};
        return {};
    }

    Outcome await(std::uint64_t tag, train::ReduceReport &report) override {
        auto &queue = launched_.at(tag);
        const auto pending = queue.front();
        queue.pop_front();
        const auto done = wait(*pending);
        if (done.code != pcclSuccess) return outcome(done);
        std::vector<const void *> sends;
        for (const auto &[call, unused] : stage_.members_.at(stage_.op_of_.at(done.call)))
            sends.push_back(stage_.sent_.at(call).data());
        const auto result = train::reduced(sends, pending->reduce.what);
        std::memcpy(pending->reduce.recv, result.data(), result.size());
        report = {static_cast<std::uint32_t>(sends.size()), result.size(), result.size()};
        return {};
    }

    void abort() override {
        if (!actor_.dead()) stage_.cluster_.abort_calls(actor_.node_);
    }
    train::Exchange *exchange() override { return nullptr; }

private:
    struct Pending {
        train::Reduce reduce;
        CallId id;
        protocol::Complete answer;
        bool done = false, awaited = false;
    };

    static Outcome outcome(const protocol::Complete &done) { return {done.code, done.why}; }

    /// The call may outlive this object, if its trainer has given up.
    void begin(CallKind kind, const std::shared_ptr<Pending> &pending, wire::Strategy strategy, Tag tag = {},
               std::uint64_t fingerprint = 0) {
        pending->id = stage_.cluster_.call(
            actor_.node_, kind,
            [&stage = stage_, &actor = actor_, pending](const protocol::Complete &done) {
                pending->answer = done;
                pending->done = true;
                if (pending->awaited) stage.resume(actor);
            },
            tag, fingerprint, strategy);
    }

    protocol::Complete wait(Pending &pending) {
        while (!pending.done && !actor_.dead()) {
            pending.awaited = true;
            stage_.pause(actor_);
        }
        if (!pending.done) pending.answer.code = gone().code, pending.answer.why = gone().why;
        return pending.answer;
    }

    protocol::Complete call(CallKind kind, wire::Strategy strategy = wire::Strategy::enforce_popular) {
        const auto pending = std::make_shared<Pending>();
        if (!actor_.dead()) begin(kind, pending, strategy);
        return wait(*pending);
    }

    Stage &stage_;
    Stage::Actor &actor_;
    std::map<std::uint64_t, std::deque<std::shared_ptr<Pending>>> launched_;
};

std::unique_ptr<train::Collectives> Stage::Actor::collectives() { return std::make_unique<SimulatedCollectives>(*this); }

void Stage::Actor::spend(Duration time) {
    if (dead()) return;
    bool over = false;
    stage_.cluster_.at_node(node_, time, [this, &over] {
        over = true;
        stage_.resume(*this);
    });
    while (!over && !dead())
        stage_.pause(*this);
}

void Stage::Actor::leave() {
    if (!dead()) stage_.cluster_.leave(node_);
}

Stage::~Stage() {
    for (const auto &actor : actors_) {
        kill(*actor);
        if (actor->thread_.joinable()) actor->thread_.join();
    }
}

Stage::Actor &Stage::add(Duration at, std::function<void(Actor &)> act) {
    Node &node = cluster_.add_node(GroupId{});
    Actor &actor = *actors_.emplace_back(std::make_unique<Actor>(*this, node));
    cluster_.at_node(node, at, [this, &actor, act = std::move(act)] {
        actor.begun_ = true;
        actor.thread_ = std::thread([this, &actor, act] {
            {
                std::unique_lock lock(mutex_);
                turn_changed_.wait(lock, [&] { return turn_ == &actor; });
            }
            act(actor);
            const std::lock_guard lock(mutex_);
            actor.ended_ = true;
            turn_ = nullptr;
            turn_changed_.notify_all();
        });
        actor.waits_ = true;
        resume(actor);
    });
    return actor;
}

/// Gives the turn to one that waits for it, and gets it back.
void Stage::resume(Actor &actor) {
    std::unique_lock lock(mutex_);
    if (!actor.waits_ || actor.ended_) return;
    actor.waits_ = false;
    turn_ = &actor;
    turn_changed_.notify_all();
    turn_changed_.wait(lock, [&] { return turn_ == nullptr; });
}

void Stage::pause(Actor &actor) {
    std::unique_lock lock(mutex_);
    actor.waits_ = true;
    turn_ = nullptr;
    turn_changed_.notify_all();
    turn_changed_.wait(lock, [&] { return turn_ == &actor; });
}

void Stage::kill(Actor &actor) {
    cluster_.crash(actor.node_, Cluster::Crash::reset);
    while (actor.begun_ && !actor.ended_)
        resume(actor);
}

bool Stage::run(Duration limit, const std::function<void()> &after_event) {
    auto &queue = cluster_.queue();
    const Time end = queue.now() + limit;
    const auto over = [&] {
        return std::ranges::all_of(actors_, [](const auto &actor) { return actor->ended_ || !actor->node_.alive; });
    };
    while (!over()) {
        if (queue.empty() || queue.next_time() > end) return false;
        queue.run_next();
        after_event();
    }
    return true;
}

}  // namespace pccl::sim
