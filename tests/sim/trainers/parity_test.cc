// Trainers over simulated peers, one of which is killed after any message of the run: a round is applied by all or by none, and
// those that are left hold the same bits and train to the end.
#include <gtest/gtest.h>

#include "sim/trainers/stage.h"
#include "unit/train_world.h"

namespace pccl::sim {
namespace {

using std::chrono::milliseconds;
using train::Log;
using train::Outcome;
using train::Trainer;
using train::Values;

constexpr std::size_t kPeers = 3, kElements = 24;
constexpr std::uint64_t kSteps = 10;
constexpr std::uint64_t kNobody = ~std::uint64_t{0};

struct Run {
    std::map<int, Log> logs;
    std::map<int, std::map<std::uint64_t, Values>> shared;  ///< by peer and outer step: parameters after averages of several
    std::uint64_t messages = 0;
    bool ended = false;
};

Values outer_of(const Trainer &trainer) {
    Values out(kElements);
    EXPECT_TRUE(trainer.outer_parameters(0, out.data()).ok());
    EXPECT_TRUE(trainer.outer_parameters(1, out.data() + kElements / 2).ok());
    return out;
}

/// What a training program does.
void live(Stage::Actor &actor, int id, const pcclTrainerConfig_t &config, Run &run) {
    Values w(kElements, 0.5F + static_cast<float>(id));
    Log &log = run.logs[id];
    std::unique_ptr<Trainer> trainer;
    const std::size_t half = w.size() / 2;
    log.outcome = Trainer::make(config, actor.collectives(),
                                {{"a", w.data(), half, pcclFloat}, {"b", w.data() + half, half, pcclFloat}}, trainer);
    if (log.outcome.ok()) log.outcome = trainer->join();
    while (log.outcome.ok() && trainer->status().inner_steps < kSteps) {
        actor.spend(milliseconds(5));
        train::descend(w, id, trainer->status().inner_steps);
        log.outcome = trainer->step(false);
        const auto status = trainer->status();
        if (log.outcome.ok() && (status.events & PCCL_TRAINER_OUTER_STEP) != 0) {
            log.outer[status.outer_steps] = outer_of(*trainer);
            if (status.averaged > 1) run.shared[id][status.outer_steps] = log.outer[status.outer_steps];
        }
    }
    if (log.outcome.ok()) log.outcome = trainer->finish();
    if (log.outcome.ok()) log.final = outer_of(*trainer);
    log.status = trainer->status();
    trainer.reset();
    actor.leave();
}

/// Peers that come one after the other. `victim` is killed when the message of that number has been dealt with.
Run train_with(const pcclTrainerConfig_t &config, std::uint64_t seed, std::size_t victim = kPeers,
               std::uint64_t at_message = kNobody) {
    Run run;
    NetworkOptions network;
    network.delay_max = milliseconds(4);
    Stage stage(seed, network);
    std::vector<Stage::Actor *> actors;
    for (int id = 0; id < static_cast<int>(kPeers); ++id) {
        run.logs[id], run.shared[id];
        actors.push_back(
            &stage.add(milliseconds(3 * id), [&run, &config, id](Stage::Actor &actor) { live(actor, id, config, run); }));
    }
    run.ended = stage.run(std::chrono::minutes(5), [&] {
        if (victim < kPeers && !actors[victim]->dead() && stage.messages() >= at_message) stage.kill(*actors[victim]);
    });
    run.messages = stage.messages();
    return run;
}

void expect_parity(const Run &run, std::size_t victim, const std::string &what) {
    SCOPED_TRACE(what);
    EXPECT_TRUE(run.ended) << "a trainer still waits for something";
    std::map<std::uint64_t, Values> seen;  // of all, also of who was lost later: a round is applied by all or none
    for (const auto &[id, steps] : run.shared) {
        for (const auto &[step, values] : steps) {
            const auto found = seen.try_emplace(step, values).first;
            EXPECT_EQ(found->second, values) << "peer " << id << " has others' round " << step << " otherwise";
        }
    }
    const Log *first = nullptr;
    for (const auto &[id, log] : run.logs) {
        if (static_cast<std::size_t>(id) == victim) continue;
        EXPECT_TRUE(log.outcome.ok()) << "peer " << id << ": " << log.outcome.why;
        EXPECT_GE(log.status.inner_steps, kSteps);
        if (!first) first = &log;
        EXPECT_EQ(first->final, log.final) << "peer " << id;
    }
}

/// Those methods that wait for their averages: what is averaged in the background goes on when its thread likes, not when the
/// simulation says.
struct Case {
    const char *name;
    pcclMethod_t method;
    bool weighted = false;
};

class Parity : public testing::TestWithParam<Case> {
protected:
    static pcclTrainerConfig_t config() {
        pcclTrainerConfig_t config{};
        train::set_defaults(config, GetParam().method);
        config.weighted = GetParam().weighted;
        config.sync_every = config.fragments =
            config.method == pcclMethodStreamingDiLoCo ? 2 : 1;  // too few steps to ask ahead in, in a thread
        config.overlap_steps = 0;
        config.rejoin_ms = 0;
        return config;
    }
};

TEST_P(Parity, HoldsAndTheSameSeedGivesTheSameRun) {
    const auto run = train_with(config(), 1), again = train_with(config(), 1);
    expect_parity(run, kPeers, "nobody is lost");
    EXPECT_EQ(run.messages, again.messages);
    EXPECT_EQ(run.logs.at(0).final, again.logs.at(0).final);
    EXPECT_GE(run.shared.at(2).size(), 3U) << "the last to come had hardly a round with others";
}

TEST_P(Parity, HoldsWhereverAPeerIsKilled) {
    const auto messages = train_with(config(), 1).messages;
    ASSERT_GT(messages, 50U);
    for (std::uint64_t at = 1; at <= messages; ++at) {
        const std::size_t victim = at % kPeers;  // neighbouring messages are much the same, so all three meet all kinds
        const std::string what = "peer " + std::to_string(victim) + " killed after message " + std::to_string(at);
        expect_parity(train_with(config(), 1, victim, at), victim, what);
        if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Methods, Parity,
                         testing::Values(Case{"DiLoCo", pcclMethodDiLoCo}, Case{"WeightedDiLoCo", pcclMethodDiLoCo, true},
                                         Case{"Streaming", pcclMethodStreamingDiLoCo}),
                         [](const auto &of) { return of.param.name; });

}  // namespace
}  // namespace pccl::sim
