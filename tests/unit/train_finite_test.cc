// Contributions, averages and initial parameters that are infinite or not a number. They are left out and named, and affect no
// other peer.
#include <cmath>
#include <limits>
#include <vector>

#include "train/gossip_trainer.h"
#include "unit/train_fake_mail.h"
#include "unit/train_world.h"

namespace pccl::train {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
constexpr int kBad = 1;                  // the peer with values that are not finite
constexpr std::uint64_t kBadNumber = 2;  // its number as a FakePeer

struct Case {
    std::string name;
    pcclMethod_t method;
    void (*also)(pcclTrainerConfig_t &) = [](pcclTrainerConfig_t &) {};
};

void sharded(pcclTrainerConfig_t &c) { c.sharded = true; }
void weighted(pcclTrainerConfig_t &c) { c.weighted = true; }
void weighed_beside(pcclTrainerConfig_t &c) {
    c.weighted = true;
    c.quantization = {pcclUint8, pcclQuantMinMax};  // a FakeRun ignores it
}
void shares(pcclTrainerConfig_t &c) { c.newcomers = pcclNewcomersSharePending; }
void resynchronizes(pcclTrainerConfig_t &c) { c.newcomers = pcclNewcomersResync; }
void sharded_resynchronizes(pcclTrainerConfig_t &c) {
    sharded(c);
    resynchronizes(c);
}
void overlaps(pcclTrainerConfig_t &c) { c.overlap_steps = 2; }

const std::vector<Case> kCases = {
    {"DiLoCo", pcclMethodDiLoCo},
    {"sharded DiLoCo", pcclMethodDiLoCo, sharded},
    {"weighted DiLoCo", pcclMethodDiLoCo, weighted},
    {"quantized weighted DiLoCo", pcclMethodDiLoCo, weighed_beside},
    {"async", pcclMethodAsyncDiLoCo},
    {"async that shares", pcclMethodAsyncDiLoCo, shares},
    {"async that resynchronizes", pcclMethodAsyncDiLoCo, resynchronizes},
    {"sharded async", pcclMethodAsyncDiLoCo, sharded},
    {"weighted async", pcclMethodAsyncDiLoCo, weighted},
    {"eager", pcclMethodEagerDiLoCo},
    {"streaming", pcclMethodStreamingDiLoCo, overlaps},
    {"CO2", pcclMethodCO2},
    {"sharded CO2", pcclMethodCO2, sharded_resynchronizes},
};

void set_up(World &world, const Case &c) {
    world.config.sync_every = 5;
    world.config.outer_learning_rate = 0.3F;
    c.also(world.config);
    world.steps = 40;
    world.elements = 20;
}

bool is_finite(const Values &values) {
    return std::ranges::all_of(values, [](float x) { return std::isfinite(x); });
}

void expect_finite(const std::map<int, Log> &logs) {
    expect_parity(logs);
    for (const auto &[id, log] : logs) {
        for (const auto &[step, outer] : log.outer)
            EXPECT_TRUE(is_finite(outer)) << "peer " << id << " after outer step " << step;
        if (log.outcome.ok()) {
            EXPECT_TRUE(is_finite(log.final)) << "peer " << id;
        }
    }
}

/// All peers continue with the same state, and each reports the same number of rounds with values that are not finite.
void expect_reported(const std::map<int, Log> &logs) {
    expect_finite(logs);
    for (const auto &[id, log] : logs) {
        EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
        EXPECT_NE(log.events & PCCL_TRAINER_NON_FINITE, 0U) << "peer " << id;
        EXPECT_EQ(log.events & PCCL_TRAINER_DIVERGED, 0U) << "peer " << id;
        EXPECT_GE(log.status.non_finite_rounds, 1U) << "peer " << id;
        EXPECT_EQ(log.status.non_finite_rounds, logs.at(0).status.non_finite_rounds);
    }
}

/// Sets an element of the bad peer to `value` at inner step `at`.
Inner spoiled(std::uint64_t at, float value) {
    return [=](Values &w, int id, std::uint64_t step) {
        descend(w, id, step);
        if (id == kBad && step == at) w[13] = value;  // element 3 of b
    };
}

TEST(NotFinite, ContributionIsLeftOutAndNamedAtAllPeers) {
    for (const Case &c : kCases) {
        for (const float value : {kNan, kInfinity, -kInfinity}) {
            SCOPED_TRACE(c.name + " " + std::to_string(value));
            World world(c.method);
            set_up(world, c);
            world.inner = spoiled(12, value);
            const auto logs = world.train(3);
            expect_reported(logs);
            for (const auto &[id, log] : logs) {
                EXPECT_EQ(log.status.non_finite_peer, kBadNumber);
                EXPECT_EQ(log.status.non_finite_tensor, 1U);
                EXPECT_EQ(log.status.outer_steps, logs.at(0).status.outer_steps);
                EXPECT_FALSE(log.status.left_out) << "it has recovered";
            }
        }
    }
}

/// Federated averaging: the outer parameters are the mean of the models that are not left out.
TEST(NotFinite, LeftOutContributionLeavesTheMeanOfTheOthers) {
    for (const bool is_weighted : {false, true}) {
        for (const bool is_sharded : {false, true}) {
            if (is_weighted && is_sharded) continue;
            World world(pcclMethodDiLoCo), without(pcclMethodDiLoCo);
            for (World *w : {&world, &without}) {
                w->config.outer_optimizer = pcclOuterSgd;
                w->config.outer_learning_rate = 1.0F;
                w->config.weighted = is_weighted;
                w->config.sharded = is_sharded;
                w->steps = 20;
            }
            world.inner = spoiled(15, kNan);
            const auto logs = world.train(3), all = without.train(3);
            expect_finite(logs);
            EXPECT_EQ(logs.at(0).outer.at(1), all.at(0).outer.at(1)) << "a round in which all contributions are finite";
            const Values &before = logs.at(0).outer.at(1), &after = logs.at(0).outer.at(2);
            for (std::size_t i = 0; i < before.size(); ++i) {
                double sum = 0.0;
                for (const int id : {0, 2}) {
                    double w = before[i];
                    for (int k = 0; k < 10; ++k)
                        w -= static_cast<double>(kInnerRate) * (w - static_cast<double>(target(id, i)));
                    sum += w;
                }
                EXPECT_NEAR(after[i], sum / 2.0, 1e-5) << i;
            }
        }
    }
}

TEST(NotFinite, NonFiniteWeightIsLeftOut) {
    World world(pcclMethodDiLoCo);
    world.config.weighted = true;
    world.before_step = [](Trainer &trainer, int id, std::uint64_t) {
        ASSERT_TRUE(trainer.add_weight(id == kBad ? 1e300 : 1.0).ok());
    };
    const auto logs = world.train(2);
    expect_finite(logs);
    EXPECT_EQ(logs.at(0).status.non_finite_tensor, SIZE_MAX);
    EXPECT_EQ(logs.at(0).status.non_finite_peer, kBadNumber);
    EXPECT_GT(logs.at(0).status.outer_steps, 0U);
}

TEST(NotFinite, RoundWithoutContributionsMakesNoOuterStep) {
    for (const Case &c : kCases) {
        SCOPED_TRACE(c.name);
        World world(c.method);
        set_up(world, c);
        world.inner = [](Values &w, int, std::uint64_t) { w[13] = kNan; };
        if (c.method == pcclMethodStreamingDiLoCo) world.inner = [](Values &w, int, std::uint64_t) { w[3] = w[13] = kNan; };
        const auto logs = world.train(2);
        for (const auto &[id, log] : logs) {
            EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
            EXPECT_EQ(log.status.outer_steps, 0U);
            EXPECT_TRUE(is_finite(log.final));
            EXPECT_TRUE(log.status.left_out);
        }
        EXPECT_EQ(logs.at(0).final, logs.at(1).final);
    }
}

TEST(NotFinite, OverflowingAverageIsNotApplied) {
    for (const Case &c : kCases) {
        SCOPED_TRACE(c.name);
        World world(c.method);
        set_up(world, c);
        world.inner = [](Values &w, int id, std::uint64_t step) {
            descend(w, id, step);
            if (step == 12) w[13] = -3e38F;  // the sum of two pseudo-gradients exceeds the largest float
        };
        const auto logs = world.train(2);
        expect_finite(logs);
        for (const auto &[id, log] : logs) {
            EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
            EXPECT_GE(log.status.non_finite_rounds, 1U);
            EXPECT_EQ(log.status.non_finite_rounds, logs.at(0).status.non_finite_rounds);
        }
    }
}

/// All contributions and their average are finite, but the outer step with this learning rate is not.
Inner step_overflows() {
    return [](Values &w, int, std::uint64_t step) {
        if (step == 12) w[13] -= 1e34F;
    };
}

TEST(NotFinite, OuterStepThatOverflowsIsNotApplied) {
    for (const Case &c : kCases) {
        SCOPED_TRACE(c.name);
        World world(c.method);
        set_up(world, c);
        world.config.outer_learning_rate = 1e6F;
        world.inner = step_overflows();
        const auto logs = world.train(2);
        expect_reported(logs);
        for (const auto &[id, log] : logs) {
            EXPECT_EQ(log.status.non_finite_tensor, 1U) << "peer " << id;
            EXPECT_EQ(log.status.outer_steps, logs.at(0).status.outer_steps);
        }
    }
}

TEST(NotFinite, OuterStepThatOverflowsFailsAllPeersIfConfigured) {
    for (const Case &c : kCases) {
        if (c.method == pcclMethodEagerDiLoCo)
            continue;  // its start point overflows first, so the message names the contribution
        SCOPED_TRACE(c.name);
        World world(c.method);
        set_up(world, c);
        world.config.outer_learning_rate = 1e6F;
        world.config.non_finite = pcclNonFiniteFail;
        world.inner = step_overflows();
        for (const auto &[id, log] : world.train(2)) {
            EXPECT_EQ(log.outcome.code, pcclInvalidArgument) << "peer " << id << ": " << log.outcome.why;
            EXPECT_THAT(log.outcome.why, testing::HasSubstr("the outer step is not finite"));
            EXPECT_THAT(log.outcome.why, testing::HasSubstr("'b' (element 3)"));
        }
    }
}

TEST(NotFinite, ContributionFailsTheRoundIfConfigured) {
    for (const Case &c : kCases) {
        SCOPED_TRACE(c.name);
        World world(c.method);
        set_up(world, c);
        world.config.non_finite = pcclNonFiniteFail;
        world.inner = spoiled(12, kInfinity);
        const auto logs = world.train(3);
        expect_finite(logs);
        for (const auto &[id, log] : logs) {
            EXPECT_EQ(log.outcome.code, pcclInvalidArgument) << "peer " << id << ": " << log.outcome.why;
            EXPECT_THAT(log.outcome.why, testing::HasSubstr("peer 2"));
            EXPECT_THAT(log.outcome.why, testing::HasSubstr("'b' (element 3)"));
            EXPECT_EQ(log.status.outer_steps, logs.at(0).status.outer_steps);
            EXPECT_LT(log.status.inner_steps, world.steps);
        }
    }
}

TEST(NotFinite, PeerReceivesTheRunsStateAfterThreeRounds) {
    for (const Case &c : kCases) {
        SCOPED_TRACE(c.name);
        World world(c.method);
        set_up(world, c);
        world.inner = [](Values &w, int id, std::uint64_t step) {
            descend(w, id, step);
            if (id == kBad && step >= 10 && step < 26) w[3] = w[13] = kNan;
        };
        const auto logs = world.train(3);
        expect_finite(logs);
        for (const auto &[id, log] : logs) {
            EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
            EXPECT_EQ(log.events & PCCL_TRAINER_DIVERGED, 0U);
            EXPECT_EQ(log.received, id == kBad ? 1U : 0U) << "peer " << id;
            EXPECT_GE(log.status.non_finite_rounds, 3U);
            EXPECT_FALSE(log.status.left_out);
        }
    }
}

TEST(NotFinite, PeerReceivesNoStateIfNoPeerHasAFiniteOne) {
    World world(pcclMethodDiLoCo);
    world.config.sync_every = 5;
    world.inner = [](Values &w, int, std::uint64_t) { w[0] = kNan; };
    for (const auto &[id, log] : world.train(2)) {
        EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
        EXPECT_EQ(log.received, 0U);
    }
}

TEST(NotFinite, OthersStayFiniteWhenAPeerIsLostAtAnyCall) {
    for (const Case &c : kCases) {
        for (const int victim : {0, 1, 2}) {
            for (int at = victim == 0 ? 6 : 2; at <= 60; at += 3) {
                SCOPED_TRACE(c.name + ", peer " + std::to_string(victim) + " killed at call " + std::to_string(at));
                World world(c.method);
                set_up(world, c);
                world.inner = [](Values &w, int id, std::uint64_t step) {
                    descend(w, id, step);
                    if (id == kBad && step >= 5) w[3] = w[13] = kNan;
                };
                world.joins_at[1] = world.joins_at[2] = 0;
                world.run.kill_at(victim, at);
                const auto logs = world.train(1);
                expect_finite(logs);
                for (const auto &[id, log] : logs) {
                    EXPECT_TRUE(log.outcome.ok() || log.outcome.code == pcclMasterConnectionFailed) << log.outcome.why;
                }
            }
        }
    }
}

/// Two peers that only join. Gives the parameters and the outcome of each.
struct Joined {
    Outcome outcome;
    Values w;
};

std::map<int, Joined> join_with(const std::map<int, Values> &initial) {
    FakeRun run;
    pcclTrainerConfig_t config{};
    set_defaults(config, pcclMethodDiLoCo);
    config.rejoin_ms = 0;
    std::set<int> ids;
    std::map<int, Joined> out;
    for (const auto &[id, w] : initial) {
        ids.insert(id);
        out[id].w = w;
    }
    run.seat(ids);
    std::vector<std::thread> threads;
    for (const int id : ids) {
        threads.emplace_back([&config, &run, &joined = out[id], id] {
            std::unique_ptr<Trainer> trainer;
            joined.outcome = Trainer::make(config, run.peer(id), {{"w", joined.w.data(), joined.w.size(), pcclFloat}}, trainer);
            if (joined.outcome.ok()) joined.outcome = trainer->join();
        });
    }
    for (auto &thread : threads)
        thread.join();
    return out;
}

TEST(NotFinite, InitialParametersAreNeverSentToOthers) {
    const Values bad = {1.0F, kNan}, good = {2.0F, 3.0F};
    const auto joined = join_with({{0, bad}, {1, bad}, {2, good}});
    for (const auto &[id, peer] : joined) {
        EXPECT_TRUE(peer.outcome.ok()) << peer.outcome.why;
        EXPECT_EQ(peer.w, good);
    }
}

TEST(NotFinite, RunWithoutFiniteInitialParametersIsRefused) {
    for (const auto &[id, peer] : join_with({{0, {1.0F, kNan}}, {1, {1.0F, kInfinity}}})) {
        EXPECT_EQ(peer.outcome.code, pcclInvalidArgument);
        EXPECT_THAT(peer.outcome.why, testing::HasSubstr("'w' (element 1)"));
    }
}

struct GossipWorld : World {
    FakeMail mail{run};
    explicit GossipWorld(pcclMethod_t method) : World(method) {
        config.sync_every = 1;
        config.merge = pcclMergeSynchronous;
        config.exchange_wait_ms = 5000;
        config.graph = pcclGraphRing;
        config.partners = pcclPartnersAll;
        steps = 12;
    }
};

TEST(NotFinite, ModelIsNotPushedAndIsReplacedByNeighbours) {
    for (const auto method : {pcclMethodGossip, pcclMethodPushSum}) {
        GossipWorld world(method);
        world.inner = [](Values &w, int id, std::uint64_t step) {
            descend(w, id, step);
            if (id == kBad && step >= 4 && step < 8) w[33] = kNan;
        };
        const auto logs = world.train(3);
        for (const auto &[id, log] : logs) {
            SCOPED_TRACE("method " + std::to_string(method) + ", peer " + std::to_string(id));
            EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
            EXPECT_TRUE(is_finite(log.final));
            EXPECT_EQ(log.status.non_finite_rounds, 4U);
            EXPECT_EQ(log.status.non_finite_tensor, 1U);
            EXPECT_NE(log.events & PCCL_TRAINER_NON_FINITE, 0U);
            EXPECT_EQ(log.status.models_refused, id == kBad || method == pcclMethodPushSum ? 0U : 4U);
            EXPECT_EQ(log.received, id == kBad ? 1U : 0U) << "three rounds in a row";
        }
        if (method == pcclMethodGossip) {  // push-sum checks its mailbox once more at its end
            EXPECT_EQ(world.mail.waited_in_vain(), 0) << "a peer waited for a model that was not sent";
        }
    }
}

TEST(NotFinite, PeerWithoutNeighboursReturnsToItsFiniteModel) {
    GossipWorld world(pcclMethodGossip);
    world.inner = [](Values &w, int, std::uint64_t step) {
        for (float &x : w)
            x = step == 5 ? kNan : 0.5F + static_cast<float>(step);
    };
    world.steps = 6;
    const auto logs = world.train(1);
    EXPECT_TRUE(logs.at(0).outcome.ok()) << logs.at(0).outcome.why;
    EXPECT_EQ(logs.at(0).final.front(), 4.5F);
}

TEST(NotFinite, ModelFailsItsOwnPeerIfConfigured) {
    GossipWorld world(pcclMethodGossip);
    world.config.merge = pcclMergeAvailable;
    world.config.non_finite = pcclNonFiniteFail;
    world.elements = 20;
    world.inner = spoiled(4, kNan);
    const auto logs = world.train(2);
    EXPECT_EQ(logs.at(kBad).outcome.code, pcclInvalidArgument);
    EXPECT_THAT(logs.at(kBad).outcome.why, testing::HasSubstr("'b'"));
    EXPECT_TRUE(logs.at(0).outcome.ok()) << logs.at(0).outcome.why;
    EXPECT_TRUE(is_finite(logs.at(0).final));
}

}  // namespace
}  // namespace pccl::train
