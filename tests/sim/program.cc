#include "program.h"

namespace pccl::sim {
namespace {

/// The graph with this number.
wire::GraphSpec graph_of(std::uint64_t number) {
    const auto kind = static_cast<wire::GraphKind>(1 + number % (wire::kGraphKinds - 1));
    const bool chosen = kind == wire::GraphKind::random_regular || kind == wire::GraphKind::preferential;
    return {kind, chosen ? 2 + static_cast<std::uint32_t>(number / 16 % 2) : 0, number};
}

}  // namespace

Rules draw_rules(Rng &rng, const Profile &profile, std::size_t groups) {
    Rules rules;
    rules.asks = rng.per_mille(600);
    rules.retries = rng.per_mille(500);
    rules.concurrent = rng.per_mille(600);
    rules.repairs_per_mille = static_cast<unsigned>(profile.repairs ? rng.between(500, 1000) : rng.below(3) * 333);
    if (profile.optimizes && rng.per_mille(400)) {
        // The steps of different groups are independent; their iterations are not.
        rules.optimize = groups > 1 || rng.per_mille(500) ? Rules::Optimize::every_iteration : Rules::Optimize::some_steps;
    }
    rules.tags = static_cast<Rules::Tags>(rng.below(3));
    rules.free_tensors = profile.free_tensors ? rng.below(2) : 0;
    rules.think_max = std::chrono::milliseconds(rng.between(5, 1500));
    rules.drift_per_mille = profile.drift_per_mille;
    rules.mismatch_per_mille = profile.mismatch_per_mille;
    rules.stale_per_mille = profile.stale_per_mille;
    rules.receive_only_per_mille = profile.receive_only_per_mille;
    rules.forgetful_per_mille = profile.forgetful_per_mille;
    rules.salt = rng.next();
    return rules;
}

/// `co_await call(...)` returns the library's answer.
struct Program::Call {
    Program &program;
    CallKind kind;
    Tag tag;
    std::uint64_t spec_hash;
    wire::Strategy strategy;
    op::LossPolicy fault;
    protocol::Complete answer{};

    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> caller) {
        program.cluster_.call(
            program.node_, kind,
            [this, caller](const protocol::Complete &done) {
                answer = done;
                caller.resume();
            },
            tag, spec_hash, strategy, fault);
    }
    protocol::Complete await_resume() { return std::move(answer); }
};

struct Program::Sleep {
    Program &program;
    Duration time;
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> caller) {
        program.cluster_.at_node(program.node_, time, [caller] { caller.resume(); });
    }
    void await_resume() noexcept {}
};

Program::Program(Cluster &cluster, Node &node, const Rules &rules, std::uint64_t seed)
    : cluster_(cluster), node_(node), rules_(rules), rng_(seed) {
    forgetful_ = rules.forgetful_per_mille > 0 && rng_.per_mille(rules.forgetful_per_mille);
}

Program::Call Program::call(CallKind kind, Tag tag, std::uint64_t spec_hash, wire::Strategy strategy, op::LossPolicy fault) {
    return Call{*this, kind, tag, spec_hash, strategy, fault, {}};
}

Program::Sleep Program::think() { return sleep(rng_.between(Duration(0), rules_.think_max) * slowness_); }
Program::Sleep Program::sleep(Duration time) { return Sleep{*this, time}; }

void Program::start(Duration after) {
    root_ = run();
    cluster_.at_node(node_, after, [this] { root_.start(); });
}

void Program::abort() {
    aborted_ = true;
    cluster_.abort_calls(node_);
}

void Program::fresh_state() {
    node_.state.revision = 0;
    node_.state.tensors.clear();
    for (std::size_t i = 0; i < rules_.tensors; ++i)
        node_.state.tensors.push_back(rng_.next());
    node_.state.free_to_differ = rules_.free_tensors;
}

Task Program::run() {
    while (true) {
        fresh_state();
        aborted_ = false;
        const auto joined = co_await call(CallKind::connect);
        ++rounds_;
        if (joined.code == pcclSuccess) {
            auto training = train();
            co_await training;
        }
        if (rng_.per_mille(200) && joined.code == pcclSuccess) co_return;
        co_await sleep(rng_.between(std::chrono::milliseconds(1), std::chrono::milliseconds(4000)));
    }
}

Task Program::train() {
    for (bool first = true; !gone(); first = false) {
        co_await think();
        ++rounds_;
        if (aborted_) {
            cluster_.leave(node_);
            co_return;
        }
        bool update = !first;
        if (update && rules_.asks) {
            const auto answer = co_await call(CallKind::ask);
            update = answer.pending;
        }
        if (update && !gone() && !aborted_) co_await call(CallKind::update);
        if (rules_.optimize == Rules::Optimize::every_iteration && !gone() && !aborted_) co_await call(CallKind::optimize);
        if (first && rules_.wants_graph() && !gone() && !aborted_) {
            node_.graph = graph_of(mix(rules_.salt, node_.group.value));
            co_await call(CallKind::graph);
        }
        if (gone() || aborted_) continue;
        if (node_.peer->world().group < 2) {
            co_await sleep(std::chrono::milliseconds(200));
            continue;
        }
        bool synced = false;
        auto synchronizing = synchronize(synced);
        co_await synchronizing;
        if (!synced) continue;
        if (rules_.optimize == Rules::Optimize::some_steps && step_ % 3 == 0) co_await call(CallKind::optimize);

        std::vector<Tag> tags;
        for (std::uint64_t tag = 0; tag <= mix(rules_.salt, step_) % 4; ++tag)
            tags.push_back(name_of(tag));
        auto reducing = reduce_all(tags);
        co_await reducing;
        for (auto &tensor : node_.state.tensors)
            tensor = mix(tensor, sum_);
        if (rng_.per_mille(rules_.drift_per_mille)) node_.state.tensors[0] = rng_.next();
    }
}

/// The tag of the step's reduce with this number.
Tag Program::name_of(std::uint64_t number) const {
    switch (rules_.tags) {
    case Rules::Tags::few: break;
    case Rules::Tags::some: return Tag{(4 * step_ + number) % 37};
    case Rules::Tags::fresh: return Tag{mix(rules_.salt, 4 * step_ + number)};
    }
    return Tag{number};
}

Task Program::synchronize(bool &synced) {
    while (!gone() && !aborted_) {
        const auto strategy =
            rng_.per_mille(rules_.receive_only_per_mille) ? wire::Strategy::receive_only : wire::Strategy::enforce_popular;
        const auto answer = co_await call(CallKind::sync, {}, 0, strategy);
        synced = answer.code == pcclSuccess;
        if (synced) {
            step_ = node_.state.revision;
            node_.state.revision += forgetful_ ? 0 : 1;
        }
        if (synced || !rules_.retries) co_return;
        co_await think();
    }
}

Task Program::reduce_all(const std::vector<Tag> &all) {
    sum_ = 0;
    std::vector<Tag> tags = all;
    std::vector<Task> threads;
    if (rules_.concurrent) {
        rng_.shuffle(tags);
        for (const Tag tag : tags)
            threads.push_back(reduce_some({tag}));
    } else {
        threads.push_back(reduce_some(tags));
    }
    co_await AllOf(threads);
}

/// Makes all its calls even if one fails, so that every member makes the same ones.
Task Program::reduce_some(std::vector<Tag> tags) {
    co_await think();
    for (const Tag tag : tags) {
        while (!gone() && !aborted_) {
            const bool differs = rng_.per_mille(rules_.mismatch_per_mille);
            const bool otherwise = rng_.per_mille(rules_.mismatch_per_mille);  // calls with the other loss policy
            const bool repair = otherwise != (mix(rules_.salt + step_, tag.value) % 1000 < rules_.repairs_per_mille);
            const bool stale = rules_.stale_per_mille > 0 && rng_.per_mille(rules_.stale_per_mille) && !repair;
            const auto answer = co_await call(CallKind::reduce, tag,
                                              stale     ? kStaleShard
                                              : differs ? rng_.next()
                                                        : mix(step_, tag.value),
                                              {}, repair ? op::LossPolicy::repair : op::LossPolicy::retry);
            if (answer.code == pcclSuccess) {
                ++reduced_;
                sum_ ^= mix(tag.value, cluster_.data().result(answer.call));
            }
            if (answer.code != pcclRankConnectionLost || !rules_.retries) break;
        }
        if (rng_.per_mille(300)) co_await think();
    }
}

}  // namespace pccl::sim
