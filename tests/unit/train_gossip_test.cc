// Gossip and push-sum against small references in double precision, and the conservation of push-sum's sums when peers are lost.
#include "train/gossip_trainer.h"

#include <cmath>
#include <numeric>
#include <random>

#include "train/variance.h"
#include "unit/train_fake_mail.h"
#include "unit/train_world.h"

namespace pccl::train {
namespace {

using Doubles = std::vector<double>;

constexpr int kPeers = 4;
constexpr std::size_t kElements = 40;

struct GossipWorld : World {
    FakeMail mail{run};
    explicit GossipWorld(pcclMethod_t method) : World(method) {
        config.sync_every = 1;
        config.merge = pcclMergeSynchronous;
        config.graph = pcclGraphRing;
        config.partners = pcclPartnersAll;
        config.verify_every = 0;
        steps = 12;
        elements = kElements;
        inner = [](Values &, int, std::uint64_t) {};
    }
};

Doubles doubles(const Values &values) { return {values.begin(), values.end()}; }

double variance(const double *x, std::size_t n) {
    const double mean = std::accumulate(x, x + n, 0.0) / static_cast<double>(n);
    double sum = 0.0;
    for (std::size_t i = 0; i < n; ++i)
        sum += (x[i] - mean) * (x[i] - mean);
    return sum / static_cast<double>(n);
}

Values drawn(int id, std::uint64_t step) {
    std::mt19937_64 random(77 * step + static_cast<std::uint64_t>(id));
    Values out(kElements);
    for (float &x : out)
        x = static_cast<float>(static_cast<double>(random() % 4001) / 2000.0 - 1.0);
    return out;
}

/// The model of each peer after `steps` rounds. Each round begins with `inner`. All peers are in a ring and in step.
struct Reference {
    const pcclTrainerConfig_t &c;
    std::vector<Doubles> w;

    explicit Reference(const pcclTrainerConfig_t &config) : c(config) {
        Doubles first;
        for (std::size_t i = 0; i < kElements; ++i)
            first.push_back(0.5 + 0.125 * static_cast<double>(i % 11));
        w.assign(kPeers, first);
    }

    void round() {
        const auto before = w;
        for (std::size_t id = 0; id < kPeers; ++id) {
            const Doubles &left = before[(id + kPeers - 1) % kPeers], &right = before[(id + 1) % kPeers];
            for (std::size_t i = 0; i < kElements; ++i) {
                if (c.method == pcclMethodPushSum)
                    w[id][i] = (before[id][i] + left[i] + right[i]) / 3.0;
                else
                    w[id][i] = own() * before[id][i] + (1.0 - own()) * (left[i] + right[i]) / 2.0;
            }
            if (c.method == pcclMethodPushSum || c.variance == pcclVarianceNone) continue;
            for (const std::size_t at : {std::size_t{0}, kElements / 2}) {  // the two tensors of the model
                const std::size_t n = kElements / 2;
                const double self = variance(&before[id][at], n),
                             others = (variance(&left[at], n) + variance(&right[at], n)) / 2.0;
                double target = others;
                if (c.variance == pcclVarianceOfOwn) target = self;
                if (c.variance == pcclVarianceWeighted) target = own() * self + (1.0 - own()) * others;
                const double now = variance(&w[id][at], n),
                             mean = std::accumulate(&w[id][at], &w[id][at] + n, 0.0) / static_cast<double>(n);
                for (std::size_t i = at; i < at + n; ++i)
                    w[id][i] = (w[id][i] - mean) * std::sqrt(target / now) + mean;
            }
        }
    }

    /// Three models of the same age have weight 1/3 each.
    double own() const { return c.weigh_by_age ? 1.0 / 3.0 : static_cast<double>(c.own_weight); }
};

void expect_near(const Values &found, const Doubles &expected, double error) {
    for (std::size_t i = 0; i < expected.size(); ++i)
        ASSERT_NEAR(found[i], expected[i], error) << "element " << i;
}

TEST(Variance, IsRestoredExactlyAndTheMeanIsKept) {
    const Values drawn_values = drawn(3, 5);
    Doubles x = doubles(drawn_values);
    const Moments before = moments(x.data(), x.size());
    EXPECT_NEAR(before.variance, variance(x.data(), x.size()), 1e-15);
    rescale(x.data(), 3.5, x.size());
    const Moments after = moments(x.data(), x.size());
    EXPECT_NEAR(after.variance, 3.5, 1e-13);
    EXPECT_NEAR(after.mean, before.mean, 1e-14);
}

TEST(Variance, IsNotChangedForAConstantTensorOrTarget0) {
    for (const double value : {0.0, 1.0, -3e20}) {
        Doubles x(100, value);
        rescale(x.data(), 0.25, x.size());
        EXPECT_EQ(x, Doubles(100, value));
    }
    const Doubles some = doubles(drawn(1, 1));
    for (const double target : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
        Doubles x = some;
        rescale(x.data(), target, x.size());
        EXPECT_EQ(x, some);
    }
}

TEST(Variance, IsNotChangedByAnEpsilonInWideLayers) {  // an epsilon of 1e-4 would reduce it to 57 %
    std::mt19937_64 random(9);
    Values model(1 << 16);
    for (float &v : model)
        v = static_cast<float>((static_cast<double>(random() % 10001) / 5000.0 - 1.0) * 0.027);
    const double target = moments(model.data(), model.size()).variance;
    Doubles x = doubles(model);
    for (double &v : x)
        v *= 0.5;
    rescale(x.data(), target, x.size());
    EXPECT_NEAR(moments(x.data(), x.size()).variance / target, 1.0, 1e-12);
}

TEST(Names, MatchCompletelyOrWithAStar) {
    EXPECT_TRUE(is_named("fc1.bias", "*.bias"));
    EXPECT_TRUE(is_named("norm2.weight", "x,norm*,y"));
    EXPECT_TRUE(is_named("a.norm.b", "*norm*"));
    EXPECT_TRUE(is_named("b", "a,b"));
    EXPECT_FALSE(is_named("bias", "*.bias"));
    EXPECT_FALSE(is_named("ab", "a,b"));
    EXPECT_FALSE(is_named("a", ""));
}

TEST(Gossip, FollowsItsDefinitionWithEveryVariance) {
    for (const pcclVariance_t target : {pcclVarianceOfReceived, pcclVarianceOfOwn, pcclVarianceWeighted, pcclVarianceNone}) {
        for (const bool by_age : {false, true}) {
            GossipWorld world(pcclMethodGossip);
            world.config.variance = target;
            world.config.weigh_by_age = by_age;
            world.config.own_weight = 0.3F;
            world.inner = [](Values &w, int id, std::uint64_t step) {
                if (step == 0) std::ranges::copy(drawn(id, 0), w.begin());
                descend(w, id, step);
            };
            const auto logs = world.train(kPeers);
            Reference reference(world.config);
            for (std::uint64_t s = 0; s < world.steps; ++s) {
                for (int id = 0; id < kPeers; ++id) {
                    Doubles &w = reference.w[static_cast<std::size_t>(id)];
                    if (s == 0) w = doubles(drawn(id, 0));
                    for (std::size_t i = 0; i < kElements; ++i)
                        w[i] -= static_cast<double>(kInnerRate) * (w[i] - static_cast<double>(train::target(id, i)));
                }
                reference.round();
            }
            for (int id = 0; id < kPeers; ++id) {
                SCOPED_TRACE("variance " + std::to_string(target) + ", by age " + std::to_string(by_age) + ", peer " +
                             std::to_string(id));
                ASSERT_TRUE(logs.at(id).outcome.ok()) << logs.at(id).outcome.why;
                expect_near(logs.at(id).final, reference.w[static_cast<std::size_t>(id)], 1e-4);
                EXPECT_EQ(logs.at(id).status.models_received, 2 * world.steps);
            }
        }
    }
}

TEST(Gossip, KeepsTheVarianceOfIndependentModels) {
    const auto variance_after_a_round = [](pcclVariance_t target) {
        GossipWorld world(pcclMethodGossip);
        world.steps = 1;
        world.config.variance = target;
        world.inner = [](Values &w, int id, std::uint64_t) { std::ranges::copy(drawn(id, 1), w.begin()); };
        const Doubles w = doubles(world.train(kPeers).at(0).final);
        return variance(w.data(), kElements / 2);
    };
    const Doubles left = doubles(drawn(kPeers - 1, 1)), right = doubles(drawn(1, 1));
    const double others = (variance(left.data(), kElements / 2) + variance(right.data(), kElements / 2)) / 2.0;
    EXPECT_NEAR(variance_after_a_round(pcclVarianceOfReceived), others, 1e-6);
    EXPECT_LT(variance_after_a_round(pcclVarianceNone), 0.7 * others);
}

TEST(Gossip, DoesNotChangeIdenticalModels) {
    for (const pcclVariance_t target : {pcclVarianceOfReceived, pcclVarianceOfOwn, pcclVarianceWeighted, pcclVarianceNone}) {
        GossipWorld world(pcclMethodGossip);
        world.config.variance = target;
        world.config.own_weight = 0.3F;
        world.inner = [](Values &w, int, std::uint64_t step) {
            if (step == 0) std::ranges::copy(drawn(7, 7), w.begin());
        };
        for (const auto &[id, log] : world.train(kPeers)) {
            EXPECT_EQ(log.final, drawn(7, 7)) << "peer " << id;
            EXPECT_EQ(log.status.outer_steps, world.steps);
        }
    }
}

TEST(Gossip, KeepsTheAveragesVarianceInNamedTensors) {
    GossipWorld world(pcclMethodGossip);
    world.steps = 1;
    world.config.uncorrected = "b*";
    world.inner = [](Values &w, int id, std::uint64_t) { std::ranges::copy(drawn(id, 1), w.begin()); };
    const auto found = world.train(kPeers).at(0).final;
    const auto with = [&](pcclVariance_t target) {
        auto config = world.config;
        config.variance = target;
        Reference reference(config);
        for (int id = 0; id < kPeers; ++id)
            reference.w[static_cast<std::size_t>(id)] = doubles(drawn(id, 1));
        reference.round();
        return reference.w[0];
    };
    const Doubles corrected = with(pcclVarianceOfReceived), plain = with(pcclVarianceNone);
    for (std::size_t i = 0; i < kElements; ++i)
        ASSERT_NEAR(found[i], i < kElements / 2 ? corrected[i] : plain[i], 1e-6) << i;
}

TEST(Gossip, RefusesInvalidModels) {
    GossipWorld world(pcclMethodGossip);
    world.config.merge = pcclMergeAvailable;
    world.steps = 3;
    const std::uint64_t tag = (std::uint64_t{1} << 63U) + 16;
    const std::size_t whole = (kHeaderFloats + 48) * sizeof(float);
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{63}, whole, whole + 1, std::size_t{100'000}})
        world.mail.forge(0, tag, FakeMail::Message(bytes, std::byte{0xFF}));
    const auto logs = world.train(1);
    EXPECT_TRUE(logs.at(0).outcome.ok()) << logs.at(0).outcome.why;
    EXPECT_EQ(logs.at(0).status.models_refused, 5U);
    EXPECT_EQ(logs.at(0).status.models_received, 0U);
}

/// A new neighbour may already have pushed its model of this round to others. Its next model belongs to the next round.
TEST(Gossip, DoesNotWaitForNeighboursThatAreAhead) {
    GossipWorld world(pcclMethodGossip);
    world.steps = 3;
    world.config.exchange_wait_ms = 2000;
    world.mail.fail_every = 1;
    const std::uint64_t tag = (std::uint64_t{1} << 63U) + 16;
    for (const int id : {0, 1})
        for (std::uint64_t round = 1; round <= world.steps; ++round)
            world.mail.forge(id, tag + round, FakeMail::Message(1));
    for (const auto &[id, log] : world.train(2)) {
        EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
        EXPECT_EQ(log.status.models_refused, world.steps - 1) << "peer " << id << " has not checked all received messages";
    }
    EXPECT_EQ(world.mail.waited_in_vain(), 2 * static_cast<int>(world.steps)) << "more than one check per round";
}

/// Peers of push-sum that do not finish: the share of each peer, and the shares in mailboxes.
struct Totals {
    Doubles x = Doubles(kElements, 0.0);
    double w = 0.0;
    double smallest = 1.0;
    std::map<int, Values> z;
    std::map<int, Outcome> outcomes;
};

Totals push(GossipWorld &world, int peers, const std::function<void(Values &, int, std::uint64_t)> &inner) {
    std::map<int, std::unique_ptr<Trainer>> trainers;
    std::map<int, Values> values;
    Totals out;
    world.config.min_peers = static_cast<std::uint32_t>(peers);
    for (int id = 0; id < peers; ++id) {
        values[id].assign(kElements, 0.0F);
        trainers[id];
        out.outcomes[id];
    }
    std::mutex mutex;
    std::vector<std::thread> threads;
    for (int id = 0; id < peers; ++id) {
        threads.emplace_back([&, id, &w = values[id], &trainer = trainers[id], &outcome = out.outcomes[id]] {
            const std::vector<Parameter> parameters = {{"a", w.data(), kElements, pcclFloat}};
            outcome = Trainer::make(world.config, world.run.peer(id), parameters, trainer);
            if (outcome.ok()) outcome = trainer->join();
            while (outcome.ok() && trainer->status().inner_steps < world.steps) {
                if (world.jitter_seed != 0)
                    std::this_thread::sleep_for(
                        std::chrono::microseconds((world.jitter_seed * 977 + static_cast<std::uint64_t>(id) * 131) % 400));
                inner(w, id, trainer->status().inner_steps);
                outcome = trainer->step(false);
                const std::lock_guard lock(mutex);
                out.smallest = std::min(out.smallest, static_cast<GossipTrainer &>(*trainer).weight());
            }
        });
    }
    for (auto &thread : threads)
        thread.join();
    for (const auto &[id, trainer] : trainers) {
        const auto &t = static_cast<GossipTrainer &>(*trainer);
        for (std::size_t i = 0; i < kElements; ++i)
            out.x[i] += t.numerator()[i];
        out.w += t.weight();
        out.z[id] = values[id];
    }
    for (const auto &message : world.mail.held()) {
        double weight = 0.0;
        Values model(kElements);
        std::memcpy(&weight, message.data() + 32, sizeof weight);
        std::memcpy(model.data(), message.data() + kHeaderFloats * sizeof(float), kElements * sizeof(float));
        for (std::size_t i = 0; i < kElements; ++i)
            out.x[i] += static_cast<double>(model[i]);
        out.w += weight;
    }
    return out;
}

/// In the first step the parameters of peer `id` become (id + 1) * (element + 1) / 8 and then stay constant, so differences are
/// exact.
void go_somewhere(Values &w, int id, std::uint64_t step) {
    for (std::size_t i = 0; step == 0 && i < w.size(); ++i)
        w[i] = 0.125F * static_cast<float>((static_cast<std::size_t>(id) + 1) * (i + 1));
}

double sum_of_all(int peers, std::size_t element) { return 0.125 * static_cast<double>(element + 1) * peers * (peers + 1) / 2.0; }

TEST(PushSum, IsDecentralizedSgdOnARegularSymmetricGraph) {
    GossipWorld world(pcclMethodPushSum);
    const auto totals = push(world, kPeers, descend);
    Reference reference(world.config);
    for (Doubles &w : reference.w)
        w.assign(kElements, 0.0);
    for (std::uint64_t s = 0; s < world.steps; ++s) {
        for (int id = 0; id < kPeers; ++id)
            for (std::size_t i = 0; i < kElements; ++i) {
                double &w = reference.w[static_cast<std::size_t>(id)][i];
                w -= static_cast<double>(kInnerRate) * (w - static_cast<double>(target(id, i)));
            }
        reference.round();
    }
    for (int id = 0; id < kPeers; ++id)
        expect_near(totals.z.at(id), reference.w[static_cast<std::size_t>(id)], 1e-4);
    EXPECT_NEAR(totals.smallest, 1.0, 1e-12);
}

TEST(PushSum, ConvergesToTheMeanOfAllModels) {
    for (const pcclGraphKind_t graph : {pcclGraphRing, pcclGraphExponential}) {
        for (const pcclMerge_t merge : {pcclMergeSynchronous, pcclMergeAvailable}) {
            GossipWorld world(pcclMethodPushSum);
            world.config.graph = graph;
            world.config.partners = graph == pcclGraphRing ? pcclPartnersAll : pcclPartnersNext;
            world.config.merge = merge;
            world.steps = merge == pcclMergeSynchronous ? 60 : 3000;
            const auto totals = push(world, kPeers, go_somewhere);
            for (std::size_t i = 0; i < kElements; ++i)
                EXPECT_NEAR(totals.x[i], sum_of_all(kPeers, i), 1e-9);
            EXPECT_NEAR(totals.w, kPeers, 1e-9);
            EXPECT_GE(totals.smallest, 1.0 / 64.0);
            if (merge == pcclMergeAvailable) continue;  // the last peer to run is alone at the end
            for (const auto &[id, z] : totals.z)
                for (std::size_t i = 0; i < kElements; ++i)
                    EXPECT_NEAR(z[i], sum_of_all(kPeers, i) / kPeers, 1e-4) << "peer " << id;
        }
    }
}

TEST(PushSum, ConservesTheSumsAfterFailedPostsAndLosses) {
    for (int at = 0; at <= 120; ++at) {  // 0: no peer is killed
        for (const pcclMerge_t merge : {pcclMergeSynchronous, pcclMergeAvailable}) {
            SCOPED_TRACE("killed at call " + std::to_string(at) + ", merge " + std::to_string(merge));
            GossipWorld world(pcclMethodPushSum);
            world.config.merge = merge;
            world.config.exchange_wait_ms = 5;
            world.mail.fail_every = 3;
            const auto totals = push(world, kPeers, [&](Values &w, int id, std::uint64_t step) {
                go_somewhere(w, id, step);
                if (id == 1 && step == 0 && at != 0) world.run.kill_at(1, world.run.calls(1) + at);
            });
            for (const auto &[id, outcome] : totals.outcomes) {
                // A peer that is killed during the messages of its last round may end before its next question to the master.
                const bool killed = id == 1 && world.run.is_dead(1) && outcome.code == pcclMasterConnectionFailed;
                EXPECT_TRUE(killed || outcome.ok()) << "peer " << id << ": " << outcome.why;
            }
            for (std::size_t i = 0; i < kElements; ++i)
                ASSERT_NEAR(totals.x[i], sum_of_all(kPeers, i), 1e-9) << "element " << i;
            EXPECT_NEAR(totals.w, kPeers, 1e-12);
            EXPECT_GT(totals.smallest, 0.0);
        }
    }
}

/// Expects that survivors and newcomers finish.
void expect_all_finish(const std::map<int, Log> &logs, std::uint64_t steps) {
    std::size_t finished = 0;
    for (const auto &[id, log] : logs) {
        if (log.outcome.code == pcclMasterConnectionFailed || log.final.empty()) continue;  // killed, or too late
        EXPECT_TRUE(log.outcome.ok()) << "peer " << id << ": " << log.outcome.why;
        EXPECT_EQ(log.status.inner_steps, steps) << "peer " << id;
        for (const float x : log.final)
            ASSERT_TRUE(std::isfinite(x));
        ++finished;
    }
    EXPECT_GT(finished, 0U);
}

TEST(Loss, GossipContinuesWhenAPeerIsLostAndAnotherJoins) {
    for (const pcclMethod_t method : {pcclMethodGossip, pcclMethodPushSum}) {
        for (const pcclMerge_t merge : {pcclMergeSynchronous, pcclMergeAvailable}) {
            for (int at = 2; at <= 90; ++at) {
                SCOPED_TRACE("method " + std::to_string(method) + ", merge " + std::to_string(merge) + ", killed at call " +
                             std::to_string(at));
                GossipWorld world(method);
                world.config.merge = merge;
                world.config.exchange_wait_ms = 50;
                world.inner = descend;
                world.steps = 10;
                world.joins_at[1] = 0;
                world.joins_at[2] = 2;
                world.joins_at[3] = 5;
                world.run.kill_at(1 + at % 2, at);
                expect_all_finish(world.train(1), world.steps);
            }
        }
    }
}

TEST(Newcomer, GossipNewcomerReceivesAModelAndMembersKeepTheirs) {
    GossipWorld world(pcclMethodGossip);
    world.config.sync_every = 5;
    world.steps = 20;
    world.joins_at[1] = 3;
    const auto logs = world.train(1);
    ASSERT_TRUE(logs.at(1).outcome.ok()) << logs.at(1).outcome.why;
    EXPECT_LT(logs.at(1).final[0], 50.0F) << "the newcomer's own model began at 100";
    EXPECT_EQ(logs.at(0).received, 0U);
    EXPECT_GE(logs.at(1).status.models_received, 1U);
}

TEST(Configuration, GossipRefusalNamesTheReason) {
    const auto refused = [](const std::function<void(pcclTrainerConfig_t &)> &change, pcclMethod_t method = pcclMethodGossip) {
        pcclTrainerConfig_t config, out;
        set_defaults(config, method);
        EXPECT_TRUE(read_config(&config, out).ok());
        change(config);
        const auto outcome = read_config(&config, out);
        EXPECT_EQ(outcome.code, pcclInvalidArgument);
        return outcome.why;
    };
    using testing::HasSubstr;
    EXPECT_THAT(refused([](auto &c) { c.own_weight = 1.5F; }), HasSubstr("`own_weight` is 1.5"));
    EXPECT_THAT(refused([](auto &c) { c.graph = pcclGraphNone; }), HasSubstr("graph"));
    EXPECT_THAT(refused([](auto &c) { c.graph_degree = 65; }), HasSubstr("not 2 to 64"));
    EXPECT_THAT(refused([](auto &c) { c.weighted = true; }), HasSubstr("weighted"));
    EXPECT_THAT(refused([](auto &c) { c.exchange_wait_ms = 0; }), HasSubstr("exchange_wait_ms"));
    EXPECT_THAT(refused([](auto &c) { c.merge = pcclMergeSynchronous, c.partners = pcclPartnersOne; }),
                HasSubstr("pcclMergeSynchronous"));
    EXPECT_THAT(refused([](auto &c) { c.merge = pcclMergeAfterAll; }, pcclMethodPushSum), HasSubstr("pcclMergeAfterAll"));
    EXPECT_THAT(refused([](auto &c) { c.quantization = {pcclUint8, pcclQuantMinMax}; }), HasSubstr("quantization"));
}

}  // namespace
}  // namespace pccl::train
