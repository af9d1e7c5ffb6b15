// Gossip and push-sum over simulated peers. At any moment of a run, a peer is killed, joins or leaves, a link breaks, or the
// master is restarted. The tests check that only inner steps change the sums of push-sum, that gossip mixes received models by
// its definition, that no peer waits for a lost peer, and that all survivors continue.
#include "train/gossip_trainer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <tuple>

#include <gtest/gtest.h>

#include "sim/trainers/stage.h"
#include "train/variance.h"
#include "unit/train_world.h"

namespace pccl::sim {
namespace {

using std::chrono::milliseconds;
using train::GossipTrainer;
using train::Log;
using train::Trainer;
using train::Values;

constexpr std::size_t kPeers = 4, kElements = 64;  // two tensors, without a gap between them in messages
constexpr std::uint64_t kSteps = 12;
constexpr milliseconds kOthers{10};  // they join when the first peer is a member
constexpr milliseconds kPatience{1000};
constexpr std::uint64_t kNever = ~std::uint64_t{0};

/// The content of a message.
struct Model {
    std::uint64_t generation = 0, round = 0, age = 0;
    double weight = 0.0;
    Values values;

    explicit Model(const Letter &letter) : values(kElements) {
        const auto *bytes = letter.content.data();
        std::memcpy(&generation, bytes + 8, sizeof generation);
        std::memcpy(&round, bytes + 16, sizeof round);
        std::memcpy(&age, bytes + 24, sizeof age);
        std::memcpy(&weight, bytes + 32, sizeof weight);
        std::memcpy(values.data(), bytes + train::kHeaderFloats * sizeof(float), kElements * sizeof(float));
    }
};

/// Sums for push-sum: the weights, and some elements of the numerators.
struct Sums {
    static constexpr std::array<std::size_t, 3> kProbes = {0, 17, kElements - 1};
    double w = 0.0;
    std::array<double, kProbes.size()> x{};

    template <class Values> void add(double sign, double weight, const Values &values) {
        w += sign * weight;
        for (std::size_t i = 0; i < kProbes.size(); ++i)
            x[i] += sign * static_cast<double>(values[kProbes[i]]);
    }
    void add(double sign, const GossipTrainer &trainer) { add(sign, trainer.weight(), trainer.numerator()); }
    double distance(const Sums &other) const {
        double most = std::abs(w - other.w);
        for (std::size_t i = 0; i < x.size(); ++i)
            most = std::max(most, std::abs(x[i] - other.x[i]));
        return most;
    }
};

struct Run {
    std::map<int, Log> logs;
    std::map<int, const GossipTrainer *> members;        ///< peers that hold a share of the sums
    std::set<int> finishing;                             ///< members that hand over their share
    std::map<int, std::set<std::uint64_t>> generations;  ///< generations in which a peer has pushed
    Sums brought;    ///< added by newcomers and inner steps, less the shares of peers that left
    Sums under_way;  ///< posted shares that no peer has yet
    std::uint64_t messages = 0, digest = 0, received = 0, undelivered = 0;
    std::map<int, double> left_with;  ///< weight of a peer when it left
    std::map<int, PeerId> ids;
    std::map<PeerId, std::uint64_t>
        unclaimed;  ///< by receiver: messages that count as delivered at their senders and that the receiver has not taken
    bool disturbed = false;  ///< a peer has left or was lost
    Duration longest_step{};
    std::string wrong;  ///< the first violation; empty if there is none
    bool ended = false;

    void require(bool holds, const std::string &otherwise) {
        if (!holds && wrong.empty()) wrong = otherwise;
    }
    void check_sums() {
        Sums all = under_way;
        for (const auto &[id, trainer] : members) {
            all.add(1.0, *trainer);
            require((trainer->weight() > 0.0 || finishing.contains(id)) && trainer->weight() <= kPeers + 1e-9,
                    "peer " + std::to_string(id) + " has weight " + std::to_string(trainer->weight()));
        }
        require(all.distance(brought) < 1e-6, "the sum of all weights is " + std::to_string(all.w) + " and not " +
                                                  std::to_string(brought.w) + ", that of an element " + std::to_string(all.x[0]) +
                                                  " and not " + std::to_string(brought.x[0]));
    }
    /// The peer leaves the run with its share.
    void goes(int id) {
        disturbed = true;
        if (const auto found = members.find(id); found != members.end()) {
            brought.add(-1.0, *found->second);
            members.erase(found);
        }
    }
};

/// The reference for gossip's mix of a model and the received models.
Values mixed(const pcclTrainerConfig_t &c, const Values &own, std::uint64_t own_age, const std::vector<Model> &models) {
    double weights = 0.0;
    std::vector<double> sum(kElements);
    std::array<double, 2> variances{};
    constexpr std::size_t kHalf = kElements / 2;
    for (const Model &model : models) {
        const double weight = c.weigh_by_age ? static_cast<double>(model.age) : 1.0;
        weights += weight;
        for (std::size_t i = 0; i < kElements; ++i)
            sum[i] += weight * static_cast<double>(model.values[i]);
        for (std::size_t t = 0; t < variances.size(); ++t)
            variances[t] += weight * train::moments(model.values.data() + t * kHalf, kHalf).variance;
    }
    const auto age = static_cast<double>(own_age);
    const double b = c.weigh_by_age ? age / (age + weights) : static_cast<double>(c.own_weight);
    for (std::size_t i = 0; i < kElements; ++i)
        sum[i] = b * static_cast<double>(own[i]) + (1.0 - b) * sum[i] / weights;
    for (std::size_t t = 0; t < variances.size() && c.variance != pcclVarianceNone; ++t) {
        const double self = train::moments(own.data() + t * kHalf, kHalf).variance, others = variances[t] / weights;
        double target = c.variance == pcclVarianceOfOwn ? self : others;
        if (c.variance == pcclVarianceWeighted) target = b * self + (1.0 - b) * others;
        train::rescale(sum.data() + t * kHalf, target, kHalf);
    }
    return {sum.begin(), sum.end()};
}

/// A training program.
class Program {
public:
    Program(int id, const pcclTrainerConfig_t &config, std::uint64_t steps, milliseconds inner_step, Run &run)
        : id_(id), name_("peer " + std::to_string(id)), config_(config), steps_(steps), inner_step_(inner_step), run_(run),
          log_(run.logs[id]) {}

    void live(Stage &stage, Stage::Actor &actor) {
        std::unique_ptr<Trainer> trainer;
        log_.outcome = Trainer::make(
            config_, actor.collectives(),
            {{"a", w_.data(), kElements / 2, pcclFloat}, {"b", &w_[kElements / 2], kElements / 2, pcclFloat}}, trainer);
        ASSERT_TRUE(trainer) << log_.outcome.why;
        actor.watch_letters([this](const Letter &letter, LetterEvent event) { on_letter(letter, event); });
        log_.outcome = trainer->join();
        if (log_.outcome.ok() && !actor.dead()) comes(*trainer, actor.id());
        while (log_.outcome.ok() && trainer->status().inner_steps < steps_) {
            actor.spend(inner_step_);
            if (actor.dead()) break;
            step(stage, *trainer);
        }
        run_.finishing.insert(id_);
        if (log_.outcome.ok() && !actor.dead()) log_.outcome = trainer->finish();
        log_.status = trainer->status();
        log_.final = w_;
        run_.left_with[id_] = static_cast<const GossipTrainer &>(*trainer).weight();
        run_.goes(id_);
        trainer.reset();
        actor.leave();
    }

private:
    bool pushes_sums() const { return config_.method == pcclMethodPushSum; }

    void comes(const Trainer &trainer, PeerId id) {
        run_.ids[id_] = id;
        run_.brought.add(1.0, 1.0, w_);
        run_.members[id_] = static_cast<const GossipTrainer *>(&trainer);
    }

    void step(Stage &stage, Trainer &trainer) {
        const Values before = w_;
        train::descend(w_, id_, 0);
        Values change(kElements);
        for (std::size_t i = 0; i < kElements; ++i)
            change[i] = before[i] - w_[i];
        run_.brought.add(-1.0, 0.0, change);
        const Values own = w_;
        ++age_;
        const Time begun = stage.now();
        log_.outcome = trainer.step(false);
        if (!log_.outcome.ok()) return;
        run_.longest_step = std::max(run_.longest_step, stage.now() - begun);
        const auto status = trainer.status();
        for (const float x : w_)
            run_.require(std::isfinite(x), name_ + " has a model that is not finite");
        if (pushes_sums())
            check_quotient(static_cast<const GossipTrainer &>(trainer));
        else
            check_mix(own, status);
    }

    void check_quotient(const GossipTrainer &trainer) {
        for (std::size_t i = 0; i < kElements; ++i)
            run_.require(std::abs(static_cast<double>(w_[i]) - trainer.numerator()[i] / trainer.weight()) < 1e-5,
                         name_ + " has a model that is not x / w");
    }

    void check_mix(const Values &own, const pcclTrainerStatus_t &status) {
        const bool mixes = (status.events & PCCL_TRAINER_OUTER_STEP) != 0;
        if (!mixes) return run_.require(w_ == own, name_ + " changed its model without mixing");
        run_.require(status.contributors == come_.size() + 1, name_ + " reports that it mixed " +
                                                                  std::to_string(status.contributors - 1) + " models; " +
                                                                  std::to_string(come_.size()) + " have arrived");
        if (come_.empty() || (config_.weigh_by_age && !age_known_)) return come_.clear();
        const Values expected = mixed(config_, own, age_, come_);
        for (std::size_t i = 0; i < kElements; ++i)
            run_.require(std::abs(w_[i] - expected[i]) < 1e-4F, name_ + " has " + std::to_string(w_[i]) + " for element " +
                                                                    std::to_string(i) + " of the mix, and the reference is " +
                                                                    std::to_string(expected[i]));
        for (const Model &model : come_)
            age_ = std::max(age_, model.age);
        come_.clear();
    }

    void on_letter(const Letter &letter, LetterEvent event) {
        const Model model(letter);
        const bool was_received = letter.received > (event == LetterEvent::received ? 1U : 0U);
        const bool was_returned = event != LetterEvent::failed && letter.told == Letter::Told::failed;
        if (event == LetterEvent::posted) {
            run_.generations[id_].insert(model.generation);
            std::tie(generation_, round_, age_) = std::tie(model.generation, model.round, model.age);
            age_known_ = true;
            run_.under_way.add(1.0, model.weight, model.values);
            return;
        }
        if (event == LetterEvent::delivered) return;
        if (!was_received && !was_returned) run_.under_way.add(-1.0, model.weight, model.values);
        if (event == LetterEvent::failed) {
            ++run_.undelivered;
        } else {
            ++run_.received;
            come_.push_back(model);
            run_.require(
                config_.merge != pcclMergeSynchronous || run_.disturbed || run_.finishing.contains(id_) ||
                    config_.exchange_wait_ms < kPatience.count() || model.generation != generation_ || model.round == round_,
                name_ + " receives a model of round " + std::to_string(model.round) + " in round " + std::to_string(round_));
        }
    }

    const int id_;
    const std::string name_;
    const pcclTrainerConfig_t &config_;
    const std::uint64_t steps_;
    const milliseconds inner_step_;
    Run &run_;
    Log &log_;
    Values w_ = Values(kElements, 0.5F + static_cast<float>(id_));
    std::vector<Model> come_;  ///< models received since the last mix
    std::uint64_t age_ = 0;    ///< inner steps in this peer's model
    bool age_known_ = false;   ///< one of this peer's messages has shown the age
    std::uint64_t round_ = 0, generation_ = 0;
};

/// The events of a run.
struct Script {
    std::uint64_t seed = 1;
    milliseconds newcomer{30};  ///< time at which the last peer joins
    milliseconds inner_step{4};
    milliseconds stop{1};  ///< longest time for which threads are stopped before they post or reduce
    enum class Fault { none, kill, break_link, restart_master } fault = Fault::none;
    std::size_t victim = 0;
    std::uint64_t after = kNever;  ///< number of the message or frame after which the fault occurs
    std::array<std::uint64_t, kPeers> steps{kSteps, kSteps, kSteps, kSteps};

    std::string text() const {
        return "seed " + std::to_string(seed) + ", newcomer after " + std::to_string(newcomer.count()) + " ms, fault " +
               std::to_string(static_cast<int>(fault)) + " at peer " + std::to_string(victim) + " after message " +
               std::to_string(after);
    }
    bool killed(int id) const { return fault == Fault::kill && after != kNever && static_cast<std::size_t>(id) == victim; }
};

Run train_with(const pcclTrainerConfig_t &config, const Script &script) {
    Run run;
    NetworkOptions network;
    network.delay_max = milliseconds(4);
    Stage stage(script.seed, network, script.stop);
    std::vector<Stage::Actor *> actors;
    const std::array<milliseconds, kPeers> come = {milliseconds(0), kOthers, kOthers, script.newcomer};
    for (std::size_t i = 0; i < kPeers; ++i) {
        const int id = static_cast<int>(i);
        run.logs[id];
        actors.push_back(&stage.add(come[i], [&, id, steps = script.steps[i]](Stage::Actor &actor) {
            Program(id, config, steps, script.inner_step, run).live(stage, actor);
        }));
        if (script.seed % 2 == 0) actors.back()->set_inline_bytes(0);
    }
    bool struck = false;
    const auto strike = [&] {
        struck = true;
        Stage::Actor &victim = *actors[script.victim];
        if (script.fault == Script::Fault::kill && !victim.dead()) {
            run.goes(static_cast<int>(script.victim));
            stage.kill(victim);
        }
        if (script.fault == Script::Fault::break_link) {
            run.disturbed = true;
            stage.break_link(victim, *actors[(script.victim + 1) % kPeers]);
        }
        if (script.fault == Script::Fault::restart_master) stage.restart_master(milliseconds(30));
    };
    run.ended = stage.run(std::chrono::minutes(5), [&] {
        if (!struck && stage.messages() >= script.after) strike();
        if (config.method == pcclMethodPushSum) run.check_sums();
    });
    run.messages = stage.messages();
    run.digest = stage.digest();
    for (const Letter &letter : stage.letters()) {
        const bool claimed = letter.received != 0 || letter.told != Letter::Told::delivered;
        if (!claimed) ++run.unclaimed[letter.post->to];
    }
    if (run.wrong.empty()) run.wrong = stage.misuse();
    return run;
}

/// Expects that two peers know the same admissions during the time when both are members.
void expect_in_step(const Run &run) {
    for (const auto &[id, mine] : run.generations) {
        for (const auto &[other, theirs] : run.generations) {
            const std::uint64_t first = std::max(*mine.begin(), *theirs.begin()),
                                last = std::min(*mine.rbegin(), *theirs.rbegin());
            for (const std::uint64_t generation : mine)
                if (generation >= first && generation <= last) {
                    EXPECT_TRUE(theirs.contains(generation))
                        << "peer " << other << " does not know an admission that peer " << id << " took part in";
                }
        }
    }
}

void expect_sound(const Run &run, const Script &script) {
    SCOPED_TRACE(script.text());
    EXPECT_TRUE(run.ended) << "a trainer has not ended";
    EXPECT_EQ(run.wrong, "");
    const bool waits_for_master = script.fault == Script::Fault::restart_master;  // which waits for lost peers
    EXPECT_LT(run.longest_step, waits_for_master ? kPatience + std::chrono::seconds(10) : kPatience)
        << "a peer has waited for a lost peer";
    expect_in_step(run);
    for (const auto &[id, log] : run.logs) {
        if (script.killed(id)) continue;
        EXPECT_TRUE(log.outcome.ok()) << "peer " << id << ": " << log.outcome.why;
        EXPECT_EQ(log.status.inner_steps, script.steps[static_cast<std::size_t>(id)]) << "peer " << id;
        EXPECT_EQ(log.status.models_refused, 0U) << "peer " << id;
    }
}

struct Case {
    const char *name;
    pcclMethod_t method;
    void (*also)(pcclTrainerConfig_t &);
};

/// The number of seeds, which vary delays and the start of threads.
std::uint64_t seeds() {
    const char *text = std::getenv("PCCL_SIM_TRAINER_SEEDS");
    return text ? std::strtoull(text, nullptr, 10) : 1;
}

class Gossip : public testing::TestWithParam<Case> {
protected:
    static pcclTrainerConfig_t config() {
        pcclTrainerConfig_t config{};
        train::set_defaults(config, GetParam().method);
        config.sync_every = 1;
        config.graph = pcclGraphRing;
        config.exchange_wait_ms = static_cast<std::uint32_t>(kPatience.count());
        config.rejoin_ms = 0;
        GetParam().also(config);
        return config;
    }

    /// Injects the fault after every `stride`-th message. Synchronous merges use twice the stride, unless it is 1, because they
    /// send more messages. Consecutive messages are similar, so each peer is hit in all kinds of situations.
    static void strike_after_every(std::uint64_t stride, Script script, const pcclTrainerConfig_t &config = Gossip::config()) {
        if (config.merge == pcclMergeSynchronous && stride > 1) stride *= 2;
        const auto messages = train_with(config, script).messages;
        ASSERT_GT(messages, 100U);
        for (script.after = 1; script.after <= messages && !HasFailure(); script.after += stride) {
            script.victim = (script.after / stride + script.seed) % kPeers;
            expect_sound(train_with(config, script), script);
        }
    }
};

TEST_P(Gossip, IsSoundAndTheSameSeedGivesTheSameRun) {
    for (const std::uint64_t seed : {1, 2}) {
        const Script script{.seed = seed};
        const auto run = train_with(config(), script), again = train_with(config(), script);
        expect_sound(run, script);
        EXPECT_EQ(run.messages, again.messages);
        EXPECT_EQ(run.digest, again.digest);
        for (const auto &[id, log] : run.logs) {
            EXPECT_EQ(log.final, again.logs.at(id).final);
            EXPECT_GT(log.status.models_received, 0U) << "peer " << id;
        }
    }
}

TEST_P(Gossip, IsSoundWhereverAPeerIsKilled) {
    for (std::uint64_t seed = 1; seed <= 2 * seeds(); ++seed)
        strike_after_every(1, {.seed = seed, .fault = Script::Fault::kill});
}

/// Threads are stopped for longer than a message and its answer take, so that messages arrive at every point of a round.
TEST_P(Gossip, IsSoundWhereThreadsStop) {
    for (std::uint64_t seed = 1; seed <= 2 * seeds(); ++seed)
        strike_after_every(25, {.seed = seed, .stop = milliseconds(20), .fault = Script::Fault::kill});
}

TEST_P(Gossip, IsSoundWhereverALinkBreaks) {
    for (std::uint64_t seed = 1; seed <= 2 * seeds(); ++seed)
        strike_after_every(25, {.seed = seed, .fault = Script::Fault::break_link});
}

TEST_P(Gossip, IsSoundWheneverTheMasterIsStartedAgain) {
    auto patient = config();
    patient.rejoin_ms = 10'000;  // a peer that finds no master retries
    strike_after_every(9, {.fault = Script::Fault::restart_master}, patient);
}

TEST_P(Gossip, IsSoundWheneverANewcomerComes) {
    for (std::uint64_t seed = 1; seed <= 2 * seeds(); ++seed) {
        for (milliseconds at = kOthers + milliseconds(seed % 2); at <= milliseconds(60) && !HasFailure(); at += milliseconds(2)) {
            const Script script{.seed = seed, .newcomer = at};
            expect_sound(train_with(config(), script), script);
        }
    }
}

/// The share of a peer that finishes goes to a neighbour, and no message is lost with it.
TEST_P(Gossip, IsSoundWheneverAPeerFinishesBeforeTheOthers) {
    for (std::uint64_t seed = 1; seed <= 4 * seeds(); ++seed) {
        for (std::size_t who = 0; who < kPeers; ++who) {
            for (std::uint64_t steps = 8; steps < kSteps - 2 && !HasFailure(); ++steps) {
                Script script{.seed = seed};
                script.steps[who] = steps;
                const auto run = train_with(config(), script);
                expect_sound(run, script);
                // If rounds are not synchronous, the other peers may be finishing as well and accept no message.
                if (config().method == pcclMethodPushSum && config().merge == pcclMergeSynchronous) {
                    EXPECT_EQ(run.left_with.at(static_cast<int>(who)), 0.0) << "peer " << who << " left with a share";
                    const bool small = script.seed % 2 == 1;  // a small message in flight to a peer that left counts as delivered
                    EXPECT_FALSE(!small && run.unclaimed.contains(run.ids.at(static_cast<int>(who))))
                        << "a message was lost with a peer that left";
                }
            }
        }
    }
}

/// A message is taken back if it is not delivered within a short timeout. Posts take about as long as the timeout, so they are
/// withdrawn at every point of their delivery.
TEST_P(Gossip, IsSoundWherePostsAreWithdrawn) {
    auto impatient = config();
    impatient.exchange_wait_ms = 6;
    std::uint64_t withdrawn = 0;
    for (std::uint64_t seed = 1; seed <= 20 * seeds(); ++seed) {
        const Script script{.seed = seed};
        const auto run = train_with(impatient, script);
        expect_sound(run, script);
        withdrawn += run.undelivered;
    }
    EXPECT_GT(withdrawn, 20U);
}

INSTANTIATE_TEST_SUITE_P(
    Methods, Gossip,
    testing::Values(Case{"PushSum", pcclMethodPushSum, [](pcclTrainerConfig_t &c) { c.graph = pcclGraphExponential; }},
                    Case{"SynchronousPushSum", pcclMethodPushSum,
                         [](pcclTrainerConfig_t &c) { c.merge = pcclMergeSynchronous, c.partners = pcclPartnersAll; }},
                    Case{"Gossip", pcclMethodGossip, [](pcclTrainerConfig_t &c) { c.own_weight = 0.3F; }},
                    Case{"SynchronousGossip", pcclMethodGossip,
                         [](pcclTrainerConfig_t &c) { c.merge = pcclMergeSynchronous, c.variance = pcclVarianceWeighted; }},
                    Case{"GossipByAge", pcclMethodGossip,
                         [](pcclTrainerConfig_t &c) {
                             c.weigh_by_age = true, c.partners = pcclPartnersOne, c.variance = pcclVarianceOfOwn;
                         }},
                    Case{"GossipAfterAll", pcclMethodGossip,
                         [](pcclTrainerConfig_t &c) { c.merge = pcclMergeAfterAll, c.variance = pcclVarianceNone; }}),
    [](const auto &of) { return of.param.name; });

}  // namespace
}  // namespace pccl::sim
