// Trainers over simulated peers. One peer is killed after any message of the run, and one joins at any time. The tests check that
// all members apply a round or none does, that a round is the outer optimizer's step on its members' contributions, and that the
// survivors hold the same bits and train to the end.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>

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

constexpr std::size_t kPeers = 3, kElements = 600;  // if divided, two peers have full parts and the third has the rest
constexpr std::uint64_t kSteps = 12;
constexpr milliseconds kInnerStep{5};  // an average takes about as long as a round of two steps
constexpr milliseconds kSecond{10};    // it joins when the first peer is a member
constexpr std::uint64_t kNobody = ~std::uint64_t{0};
constexpr int kSpoiled = 1;                // a peer whose parameters are not finite
constexpr std::uint64_t kSpoiledStep = 8;  // after this inner step

/// The contribution of a peer to an average: its parameters at the start of the round, less those at the end.
struct Contribution {
    double weight = 1.0;
    Values difference;
};

/// An outer step as a peer saw it.
struct Round {
    std::uint32_t contributors = 0;  ///< members; 0: not known to a peer that joined while the average was in flight
    std::uint32_t left_out = 0;      ///< members whose contribution was not finite
    Values before, after;            ///< outer parameters; `before` is empty if the call has made several
};

struct Run {
    std::map<int, Log> logs;
    std::map<int, std::map<std::uint64_t, Round>> rounds;                ///< by peer and outer step
    std::map<std::uint64_t, std::map<int, Contribution>> contributions;  ///< by inner step and peer
    std::uint64_t messages = 0, digest = 0;
    std::string misuse;
    bool ended = false;

    std::uint64_t rounds_with_others(int id) const {
        return static_cast<std::uint64_t>(
            std::ranges::count_if(rounds.at(id), [](const auto &entry) { return entry.second.contributors > 1; }));
    }
};

Values outer_of(const Trainer &trainer) {
    Values out(kElements);
    EXPECT_TRUE(trainer.outer_parameters(0, out.data()).ok());
    EXPECT_TRUE(trainer.outer_parameters(1, out.data() + kElements / 2).ok());
    return out;
}

/// A training program.
class Program {
public:
    Program(int id, const pcclTrainerConfig_t &config, bool spoils, Run &run)
        : id_(id), spoils_(spoils && id == kSpoiled), config_(config), run_(run), log_(run.logs[id]) {}

    void live(Stage::Actor &actor) {
        const std::size_t half = w_.size() / 2;
        log_.outcome = Trainer::make(config_, actor.collectives(),
                                     {{"a", w_.data(), half, pcclFloat}, {"b", w_.data() + half, half, pcclFloat}}, trainer_);
        ASSERT_TRUE(trainer_) << log_.outcome.why;
        log_.outcome = trainer_->join();
        note_events();
        begun_ = w_;
        while (log_.outcome.ok() && trainer_->status().inner_steps < kSteps) {
            actor.spend(kInnerStep);
            train::descend(w_, id_, trainer_->status().inner_steps);
            spoiled_ = spoils_ && trainer_->status().inner_steps + 1 == kSpoiledStep;
            if (spoiled_) std::ranges::fill(w_, std::numeric_limits<float>::infinity());
            step();
        }
        if (log_.outcome.ok()) log_.outcome = trainer_->finish();
        if (log_.outcome.ok()) log_.final = outer_of(*trainer_);
        log_.status = trainer_->status();
        trainer_.reset();
        actor.leave();
    }

private:
    pcclTrainerStatus_t note_events() {
        const auto status = trainer_->status();
        log_.events |= status.events;
        log_.received += (status.events & PCCL_TRAINER_STATE_RECEIVED) != 0 ? 1 : 0;
        return status;
    }

    void step() {
        const bool due = trainer_->is_due();
        const double weight = 1.0 + id_;
        if (due && !spoiled_) {
            EXPECT_TRUE(!config_.weighted || trainer_->add_weight(weight).ok());
            auto &given = run_.contributions[trainer_->status().inner_steps + 1][id_] = {config_.weighted ? weight : 1.0, begun_};
            for (std::size_t i = 0; i < w_.size(); ++i)
                given.difference[i] -= w_[i];
        }
        const auto steps = trainer_->status().outer_steps, left_out = trainer_->status().non_finite_rounds;
        Values before = outer_of(*trainer_);
        log_.outcome = trainer_->step(false);
        const auto status = note_events();
        if (due) begun_ = w_;
        if (!log_.outcome.ok() || (status.events & PCCL_TRAINER_OUTER_STEP) == 0) return;
        if (status.outer_steps != steps + 1) before.clear();
        run_.rounds[id_][status.outer_steps] = {status.contributors, status.non_finite_rounds != left_out ? 1U : 0U,
                                                std::move(before), outer_of(*trainer_)};
    }

    const int id_;
    const bool spoils_;
    const pcclTrainerConfig_t &config_;
    Run &run_;
    Log &log_;
    Values w_ = Values(kElements, 0.5F + static_cast<float>(id_));
    Values begun_;  ///< parameters at the start of this round
    bool spoiled_ = false;
    std::unique_ptr<Trainer> trainer_;
};

/// The events of a run.
struct Script {
    std::uint64_t seed = 1;
    milliseconds newcomer{30};  ///< time at which the last peer joins
    milliseconds stop{1};       ///< longest time for which threads are stopped between two reductions
    std::size_t victim = kPeers;
    std::uint64_t killed_after = kNobody;  ///< number of the message after which the victim is killed
    bool spoils = false;                   ///< a contribution of one peer is not finite
};

Run train_with(const pcclTrainerConfig_t &config, const Script &script) {
    Run run;
    NetworkOptions network;
    network.delay_max = milliseconds(4);
    Stage stage(script.seed, network, script.stop);
    std::vector<Stage::Actor *> actors;
    const std::array<milliseconds, kPeers> come = {milliseconds(0), kSecond, script.newcomer};
    for (std::size_t i = 0; i < kPeers; ++i) {
        const int id = static_cast<int>(i);
        run.logs[id], run.rounds[id];
        actors.push_back(&stage.add(
            come[i], [&run, &config, &script, id](Stage::Actor &actor) { Program(id, config, script.spoils, run).live(actor); }));
    }
    run.ended = stage.run(std::chrono::minutes(5), [&] {
        if (script.victim < kPeers && !actors[script.victim]->dead() && stage.messages() >= script.killed_after)
            stage.kill(*actors[script.victim]);
    });
    run.messages = stage.messages();
    run.digest = stage.digest();
    run.misuse = stage.misuse();
    return run;
}

/// Checks that rounds are outer steps of SGD or heavy ball by the mean of the contributions of some peers.
class Explanation {
public:
    Explanation(const Run &run, const pcclTrainerConfig_t &config) : run_(run), config_(config) {}

    bool possible() const {
        const bool known = config_.method != pcclMethodStreamingDiLoCo && config_.method != pcclMethodCO2;
        return known && config_.outer_optimizer != pcclOuterNesterov;
    }

    /// The check for a peer that saw this round and the previous ones.
    bool explains(const std::map<std::uint64_t, Round> &rounds, std::uint64_t step) const {
        const Round &round = rounds.at(step);
        const auto previous = rounds.find(step - 1);
        const bool first = step == 1, remembers = config_.outer_optimizer == pcclOuterHeavyBall;
        const bool momentum_known = !remembers || first || (previous != rounds.end() && !previous->second.before.empty());
        if (round.before.empty() || !momentum_known) return true;
        Values momentum(kElements, 0.0F);
        for (std::size_t i = 0; i < kElements && remembers && !first; ++i)
            momentum[i] = (previous->second.before[i] - previous->second.after[i]) / config_.outer_learning_rate;
        for (const auto &[when, given] : run_.contributions)
            for (unsigned who = 1; who < 1U << kPeers; ++who)
                if (has_all(given, who) && averaged(round, who) && is_step(round, momentum, mean_of(given, who))) return true;
        return false;
    }

private:
    /// `who` has a bit for each peer.
    static bool has_all(const std::map<int, Contribution> &given, unsigned who) {
        return std::ranges::count_if(given, [&](const auto &entry) { return (who >> entry.first & 1U) != 0; }) ==
               std::popcount(who);
    }

    /// If averages are applied later, the same call may have waited for another average.
    bool averaged(const Round &round, unsigned who) const {
        const bool told = round.contributors != 0 && !train::traits_of(config_).is_delayed();
        return !told || static_cast<int>(round.contributors - round.left_out) == std::popcount(who);
    }

    static Values mean_of(const std::map<int, Contribution> &given, unsigned who) {
        std::vector<double> sum(kElements);
        double weights = 0.0;
        for (const auto &[id, contribution] : given) {
            if ((who >> id & 1U) == 0) continue;
            weights += contribution.weight;
            for (std::size_t i = 0; i < kElements; ++i)
                sum[i] += contribution.weight * contribution.difference[i];
        }
        Values mean(kElements);
        std::ranges::transform(sum, mean.begin(), [&](double value) { return static_cast<float>(value / weights); });
        return mean;
    }

    /// The momentum of a lost shard begins at zero.
    bool is_step(const Round &round, const Values &momentum, const Values &mean) const {
        const auto is = [&](std::size_t i, float kept) {
            const float v = config_.outer_momentum * kept + mean[i];
            return std::abs(round.before[i] - config_.outer_learning_rate * v - round.after[i]) < 1e-4F;
        };
        for (std::size_t i = 0; i < kElements; ++i)
            if (!is(i, momentum[i]) && !(config_.sharded && is(i, 0.0F))) return false;
        return true;
    }

    const Run &run_;
    const pcclTrainerConfig_t &config_;
};

void expect_parity(const Run &run, const Script &script, const pcclTrainerConfig_t &config) {
    SCOPED_TRACE("seed " + std::to_string(script.seed) + ", newcomer after " + std::to_string(script.newcomer.count()) +
                 " ms, peer " + std::to_string(script.victim) + " killed after message " + std::to_string(script.killed_after));
    EXPECT_TRUE(run.ended) << "a trainer has not ended";
    EXPECT_EQ(run.misuse, "");
    const Explanation explanation(run, config);
    std::map<std::uint64_t, const Values *>
        seen;  // rounds of all peers, including peers lost later: all apply a round or none does
    for (const auto &[id, rounds] : run.rounds) {
        for (const auto &[step, round] : rounds) {
            if (explanation.possible()) {
                EXPECT_TRUE(explanation.explains(rounds, step))
                    << "peer " << id << ", round " << step << " is not the mean of the contributions of " << round.contributors
                    << " peers";
            }
            if (round.contributors < 2) continue;  // a peer that joins after the loss of all members begins a new run
            const auto found = seen.try_emplace(step, &round.after).first;
            EXPECT_EQ(*found->second, round.after)
                << "peer " << id << " has another result of round " << step << " than the other peers";
        }
    }
    // No round is made twice. A round is lost only with the only member that has not yet sent it to resynchronizing newcomers.
    const std::uint64_t fragments = config.method == pcclMethodStreamingDiLoCo ? config.fragments : 1;
    const std::uint64_t rounds = fragments * kSteps / config.sync_every;
    const std::uint64_t untold = config.newcomers == pcclNewcomersResync && script.victim < kPeers ? 1 : 0;
    const std::uint64_t can_be_lost =
        untold + (script.spoils && script.victim < kPeers ? fragments : 0);  // if the others are lost
    const Log *first = nullptr;
    for (const auto &[id, log] : run.logs) {
        if (static_cast<std::size_t>(id) == script.victim) continue;
        EXPECT_TRUE(log.outcome.ok()) << "peer " << id << ": " << log.outcome.why;
        EXPECT_EQ(log.events & PCCL_TRAINER_DIVERGED, 0U) << "peer " << id;
        EXPECT_TRUE(std::ranges::all_of(log.final, [](float x) { return std::isfinite(x); })) << "peer " << id;
        if (script.spoils && script.victim == kPeers) {
            EXPECT_NE(log.events & PCCL_TRAINER_NON_FINITE, 0U)
                << "peer " << id << " has no event for the contribution that is not finite";
        }
        EXPECT_EQ(log.status.inner_steps, kSteps) << "peer " << id;
        EXPECT_LE(log.status.outer_steps, rounds) << "peer " << id;
        EXPECT_GE(log.status.outer_steps + can_be_lost, rounds) << "peer " << id;
        if (!first) first = &log;
        EXPECT_EQ(first->final, log.final) << "peer " << id;
    }
}

struct Case {
    const char *name;
    pcclMethod_t method;
    pcclNewcomers_t newcomers = pcclNewcomersDrain;
    void (*also)(pcclTrainerConfig_t &) = [](pcclTrainerConfig_t &) {};
    bool spoils = false;
};

/// The number of seeds, which vary delays and the start of background threads.
std::uint64_t seeds() {
    const char *text = std::getenv("PCCL_SIM_TRAINER_SEEDS");
    return text ? std::strtoull(text, nullptr, 10) : 1;
}

class Parity : public testing::TestWithParam<Case> {
protected:
    static pcclTrainerConfig_t config() {
        pcclTrainerConfig_t config{};
        train::set_defaults(config, GetParam().method);
        config.newcomers = GetParam().newcomers;
        config.sync_every = 2;
        config.rejoin_ms = 0;
        GetParam().also(config);
        return config;
    }

    static Script script_of(Script script) {
        script.spoils = GetParam().spoils;
        return script;
    }

    static void kill_after_every(std::uint64_t so_manieth, Script script) {
        script = script_of(script);
        const auto messages = train_with(config(), script).messages;
        ASSERT_GT(messages, 50U);
        for (script.killed_after = 1; script.killed_after <= messages && !HasFailure(); script.killed_after += so_manieth) {
            // Consecutive messages are similar, so each of the three peers is hit in all kinds of situations.
            script.victim = (script.killed_after / so_manieth + script.seed) % kPeers;
            expect_parity(train_with(config(), script), script, config());
        }
    }
};

TEST_P(Parity, HoldsAndTheSameSeedGivesTheSameRun) {
    const Script script = script_of({});
    const auto run = train_with(config(), script), again = train_with(config(), script);
    expect_parity(run, script, config());
    EXPECT_EQ(run.messages, again.messages);
    EXPECT_EQ(run.digest, again.digest);
    for (const auto &[id, log] : run.logs)
        EXPECT_EQ(log.final, again.logs.at(id).final);
    EXPECT_GE(run.rounds_with_others(0), 3U);
    EXPECT_GE(run.rounds_with_others(2), 1U) << "the last newcomer had no round with others";
}

TEST_P(Parity, HoldsWhereverAPeerIsKilled) {
    for (std::uint64_t seed = 1; seed <= seeds(); ++seed)
        kill_after_every(1, Script{seed});
}

/// Threads are stopped for longer than a commit and a new view take, so that members change between two reductions that belong
/// together.
TEST_P(Parity, HoldsWhereThreadsStopBetweenReductions) {
    for (std::uint64_t seed = 1; seed <= seeds(); ++seed)
        kill_after_every(3, Script{.seed = seed, .stop = milliseconds(40)});
}

TEST_P(Parity, HoldsWheneverANewcomerComes) {
    for (std::uint64_t seed = 1; seed <= seeds(); ++seed) {
        for (milliseconds at = kSecond; at <= milliseconds(55); ++at) {
            const Script script = script_of({seed, at});
            const auto run = train_with(config(), script);
            expect_parity(run, script, config());
            EXPECT_EQ(run.logs.at(0).received, 0U) << "a member received a state that it already had";
            EXPECT_GE(run.logs.at(2).received, 1U);
            if (HasFailure()) return;
        }
    }
}

void weighted(pcclTrainerConfig_t &config) {
    config.weighted = true;
    config.outer_optimizer = pcclOuterSgd;
}
void weighed_beside(pcclTrainerConfig_t &config) {  // weights do not fit into a quantized average
    weighted(config);
    config.quantization.algorithm = pcclQuantMinMax;
}
void as_it_is(pcclTrainerConfig_t &) {}
void at_rate_one(pcclTrainerConfig_t &config) {
    config.outer_optimizer = pcclOuterSgd;
    config.outer_learning_rate = 1.0F;
}
void at_once(pcclTrainerConfig_t &config) { config.overlap_steps = 0; }
void overlapped(pcclTrainerConfig_t &config) {
    config.sync_every = config.fragments = 3;
    config.overlap_steps = 2;
    config.fragment_pattern = pcclFragmentsEven;
}
void sharded(pcclTrainerConfig_t &config) { config.sharded = true; }
void sharded_heavy_ball(pcclTrainerConfig_t &config) {
    sharded(config);
    config.outer_optimizer = pcclOuterHeavyBall;
    config.outer_momentum = 0.5F;
}
void clipped(pcclTrainerConfig_t &config) { config.clip_momentum = 0.05F; }
void clipped_and_sharded(pcclTrainerConfig_t &config) {
    clipped(config);
    sharded(config);
}

INSTANTIATE_TEST_SUITE_P(
    Methods, Parity,
    testing::Values(Case{"DiLoCo", pcclMethodDiLoCo}, Case{"WeightedDiLoCo", pcclMethodDiLoCo, pcclNewcomersDrain, weighted},
                    Case{"ShardedDiLoCo", pcclMethodDiLoCo, pcclNewcomersDrain, sharded_heavy_ball},
                    Case{"Streaming", pcclMethodStreamingDiLoCo, pcclNewcomersDrain, at_once},
                    Case{"OverlappedStreaming", pcclMethodStreamingDiLoCo, pcclNewcomersDrain, overlapped},
                    Case{"DrainingAsync", pcclMethodAsyncDiLoCo},
                    Case{"SharingAsync", pcclMethodAsyncDiLoCo, pcclNewcomersSharePending},
                    Case{"ResyncingAsync", pcclMethodAsyncDiLoCo, pcclNewcomersResync},
                    Case{"WeightedAsync", pcclMethodAsyncDiLoCo, pcclNewcomersSharePending, weighed_beside},
                    Case{"Eager", pcclMethodEagerDiLoCo}, Case{"SharingEager", pcclMethodEagerDiLoCo, pcclNewcomersSharePending},
                    Case{"CO2", pcclMethodCO2, pcclNewcomersDrain, clipped},
                    Case{"ShardedCO2", pcclMethodCO2, pcclNewcomersSharePending, clipped_and_sharded},
                    Case{"ResyncingShardedCO2", pcclMethodCO2, pcclNewcomersResync, clipped_and_sharded},
                    Case{"SpoiledDiLoCo", pcclMethodDiLoCo, pcclNewcomersDrain, at_rate_one, true},
                    Case{"SpoiledWeightedDiLoCo", pcclMethodDiLoCo, pcclNewcomersDrain, weighted, true},
                    Case{"SpoiledShardedDiLoCo", pcclMethodDiLoCo, pcclNewcomersDrain, sharded_heavy_ball, true},
                    Case{"SpoiledOverlappedStreaming", pcclMethodStreamingDiLoCo, pcclNewcomersDrain, overlapped, true},
                    Case{"SpoiledEager", pcclMethodEagerDiLoCo, pcclNewcomersSharePending, as_it_is, true},
                    Case{"SpoiledShardedCO2", pcclMethodCO2, pcclNewcomersResync, clipped_and_sharded, true}),
    [](const auto &of) { return of.param.name; });

}  // namespace
}  // namespace pccl::sim
