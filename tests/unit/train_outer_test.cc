// DiLoCo and its family against small references in double precision, and against each other for special cases.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <set>
#include <vector>

#include "unit/train_world.h"

namespace pccl::train {
namespace {

using Doubles = std::vector<double>;

/// The definition of each method, for a constant membership.
class Reference {
public:
    Reference(const World &world, int peers) : c_(world.config), steps_(world.steps), n_(world.elements), peers_(peers) {
        for (std::size_t i = 0; i < n_; ++i)
            theta_.push_back(0.5 + 0.125 * static_cast<double>(i % 11));
        v_.assign(n_, 0.0);
        w_.assign(static_cast<std::size_t>(peers), theta_);
    }

    /// Outer parameters after each outer step.
    std::vector<Doubles> run() {
        switch (c_.method) {
        case pcclMethodStreamingDiLoCo: stream(); break;
        case pcclMethodDiLoCo: synchronous(); break;
        default: delayed(); break;
        }
        return out_;
    }

private:
    void inner(std::size_t from, std::size_t to) {
        for (int id = 0; id < peers_; ++id)
            for (std::size_t i = from; i < to; ++i)
                w_[id][i] -= static_cast<double>(kInnerRate) * (w_[id][i] - static_cast<double>(target(id, i)));
    }

    void outer(std::size_t i, double g) {
        const double rate = c_.outer_learning_rate, u = c_.outer_momentum;
        if (c_.outer_optimizer == pcclOuterSgd) {
            theta_[i] -= rate * g;
            return;
        }
        v_[i] = u * v_[i] + g;
        theta_[i] -= rate * (c_.outer_optimizer == pcclOuterNesterov ? g + u * v_[i] : v_[i]);
    }

    double mean_gradient(std::size_t i) const {
        double sum = 0.0;
        for (const Doubles &w : w_)
            sum += theta_[i] - w[i];
        return sum / peers_;
    }

    void synchronous() {
        for (std::uint64_t s = 1; s <= steps_; ++s) {
            inner(0, n_);
            if (s % c_.sync_every != 0) continue;
            for (std::size_t i = 0; i < n_; ++i)
                outer(i, mean_gradient(i));
            for (Doubles &w : w_)
                w = theta_;
            out_.push_back(theta_);
        }
    }

    /// Async, eager and CO2: the average of a round is applied at the end of the next round.
    void delayed() {
        std::vector<Doubles> start = w_, overlay(w_.size(), Doubles(n_, 0.0));
        Doubles pending;
        double usual = 0.0, last = 0.0;
        for (std::uint64_t s = 1; s <= steps_ + 1; ++s) {
            const bool finish = s > steps_;
            if (!finish) inner(0, n_);
            if (!finish && s % c_.sync_every != 0) continue;
            Doubles mean(n_, 0.0);
            std::vector<Doubles> delta(w_.size(), Doubles(n_));
            for (std::size_t id = 0; id < w_.size(); ++id)
                for (std::size_t i = 0; i < n_; ++i) {
                    delta[id][i] = start[id][i] - w_[id][i];
                    mean[i] += delta[id][i] / peers_;
                }
            if (!pending.empty()) {
                if (c_.method == pcclMethodCO2)
                    co2(pending, usual, last);
                else
                    for (std::size_t i = 0; i < n_; ++i)
                        outer(i, pending[i]);
                out_.push_back(theta_);
            }
            pending = mean;
            for (std::size_t id = 0; id < w_.size(); ++id) {
                w_[id] = theta_;
                if (c_.method == pcclMethodEagerDiLoCo) {
                    const double u = c_.outer_optimizer == pcclOuterSgd ? 0.0 : static_cast<double>(c_.outer_momentum);
                    for (std::size_t i = 0; i < n_; ++i) {
                        overlay[id][i] = u * overlay[id][i] + delta[id][i];
                        w_[id][i] -= static_cast<double>(c_.outer_learning_rate) / peers_ * (delta[id][i] + u * overlay[id][i]);
                    }
                }
                start[id] = w_[id];
            }
        }
    }

    void co2(const Doubles &g, double &usual, double &last) {
        double penalty = 1.0;
        if (c_.penalty_mode == pcclPenaltyConstant) penalty = c_.penalty;
        if (c_.penalty_mode == pcclPenaltyGapAware && usual > 0.0) penalty += last / usual;
        double squares = 0.0;
        for (std::size_t i = 0; i < n_; ++i) {
            v_[i] = static_cast<double>(c_.outer_momentum) * v_[i] + g[i] / penalty;
            const double bound = c_.clip_momentum;
            if (bound > 0.0) v_[i] = std::clamp(v_[i], -bound, bound);
            theta_[i] -= static_cast<double>(c_.outer_learning_rate) * v_[i];
            squares += std::pow(static_cast<double>(c_.outer_learning_rate) * v_[i], 2);
        }
        last = std::sqrt(squares);
        usual = usual > 0.0 ? 0.9 * usual + 0.1 * last : last;
    }

    /// Streaming with two fragments, which are the halves of the model.
    void stream() {
        struct Flight {
            std::size_t first, end;
            std::uint64_t at;
            Doubles mean;
        };
        std::deque<Flight> flights;
        const auto land = [&](const Flight &f) {
            for (std::size_t i = f.first; i < f.end; ++i) {
                outer(i, f.mean[i]);
                for (Doubles &w : w_)
                    w[i] = static_cast<double>(c_.mixing) * w[i] + (1.0 - static_cast<double>(c_.mixing)) * theta_[i];
            }
            out_.push_back(theta_);
        };
        for (std::uint64_t s = 1; s <= steps_; ++s) {
            inner(0, n_);
            for (; !flights.empty() && flights.front().at == s; flights.pop_front())
                land(flights.front());
            for (std::uint64_t p = 0; p < c_.fragments; ++p) {
                if (s % c_.sync_every != c_.sync_every * (p + 1) / c_.fragments % c_.sync_every) continue;
                Flight f{n_ * p / c_.fragments, n_ * (p + 1) / c_.fragments, s + c_.overlap_steps, Doubles(n_, 0.0)};
                for (std::size_t i = f.first; i < f.end; ++i)
                    f.mean[i] = mean_gradient(i);
                if (f.at == s)
                    land(f);
                else
                    flights.push_back(f);
            }
        }
        for (const Flight &f : flights)
            land(f);
    }

    const pcclTrainerConfig_t c_;
    const std::uint64_t steps_;
    const std::size_t n_;
    const int peers_;
    Doubles theta_, v_;
    std::vector<Doubles> w_;
    std::vector<Doubles> out_;
};

void expect_reference(World &world, int peers) {
    const auto expected = Reference(world, peers).run();
    const auto logs = world.train(peers);
    expect_parity(logs);
    for (const auto &[id, log] : logs) {
        ASSERT_TRUE(log.outcome.ok()) << log.outcome.why;
        ASSERT_EQ(log.status.outer_steps, expected.size());
        for (const auto &[step, values] : log.outer) {
            ASSERT_EQ(values.size(), expected[step - 1].size());
            for (std::size_t i = 0; i < values.size(); ++i)
                ASSERT_NEAR(static_cast<double>(values[i]), expected[step - 1][i], 2e-5 * (1.0 + std::abs(expected[step - 1][i])))
                    << "peer " << id << ", outer step " << step << ", element " << i;
        }
        EXPECT_EQ(log.final, log.outer.rbegin()->second);
    }
}

TEST(Reference, DiLoCoMatchesWithEveryOuterOptimizer) {
    for (const auto optimizer : {pcclOuterSgd, pcclOuterHeavyBall, pcclOuterNesterov}) {
        for (const int peers : {1, 2, 4}) {
            World world(pcclMethodDiLoCo);
            world.config.outer_optimizer = optimizer;
            expect_reference(world, peers);
        }
    }
}

TEST(Reference, AsyncDiLoCoIsOneOuterStepLate) {
    for (const auto optimizer : {pcclOuterSgd, pcclOuterHeavyBall, pcclOuterNesterov}) {
        World world(pcclMethodAsyncDiLoCo);
        world.config.outer_optimizer = optimizer;
        world.config.outer_learning_rate = 0.15F;
        world.config.outer_momentum = optimizer == pcclOuterSgd ? 0.0F : 0.8F;
        expect_reference(world, 3);
    }
}

TEST(Reference, EagerDiLoCoAddsEachPeersOwnShareImmediately) {
    for (const auto optimizer : {pcclOuterSgd, pcclOuterNesterov}) {
        World world(pcclMethodEagerDiLoCo);
        world.config.outer_optimizer = optimizer;
        world.config.outer_learning_rate = 0.4F;
        world.config.outer_momentum = optimizer == pcclOuterSgd ? 0.0F : 0.9F;
        expect_reference(world, 4);
    }
}

TEST(Reference, StreamingDiLoCoMatchesForDelaysAndMixings) {
    for (const std::uint32_t overlap : {0U, 1U, 4U, 5U, 9U}) {
        for (const float mixing : {0.0F, 0.5F, 1.0F}) {
            World world(pcclMethodStreamingDiLoCo);
            world.config.overlap_steps = overlap;
            world.config.mixing = mixing;
            expect_reference(world, 3);
        }
    }
}

TEST(Reference, CO2MatchesWithEveryPenaltyAndWithClipping) {
    for (const auto mode : {pcclPenaltyNone, pcclPenaltyConstant, pcclPenaltyGapAware}) {
        for (const float clip : {0.0F, 0.05F}) {
            World world(pcclMethodCO2);
            world.config.penalty_mode = mode;
            world.config.penalty = 1.5F;
            world.config.clip_momentum = clip;
            world.config.outer_learning_rate = 0.5F;
            expect_reference(world, 3);
        }
    }
}

/// Runs `world` and returns the log of its first peer. The logs of all peers must agree.
Log one(World &world, int peers) {
    const auto logs = world.train(peers);
    expect_parity(logs);
    for (const auto &[id, log] : logs)
        EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
    return logs.at(0);
}

TEST(SpecialCase, RateOneWithoutMomentumIsTheMeanOfTheModels) {
    World world(pcclMethodDiLoCo);
    world.config.outer_optimizer = pcclOuterSgd;
    world.config.outer_learning_rate = 1.0F;
    world.inner = [](Values &w, int id, std::uint64_t step) {  // whole numbers, so that nothing is rounded
        if (step == 0) std::ranges::fill(w, 8.0F);
        for (std::size_t i = 0; i < w.size(); ++i)
            w[i] += static_cast<float>(4 * ((id * 7 + static_cast<int>(i)) % 5));
    };
    world.steps = 10;
    const auto log = one(world, 4);
    for (std::size_t i = 0; i < log.final.size(); ++i) {
        float mean = 0.0F;
        for (int id = 0; id < 4; ++id)
            mean += (8.0F + 40.0F * static_cast<float>((id * 7 + static_cast<int>(i)) % 5)) / 4.0F;
        EXPECT_NEAR(log.final[i], mean, 1e-5F);
    }
}

TEST(SpecialCase, OnePeerWithoutMomentumIsLookahead) {
    World world(pcclMethodDiLoCo);
    world.config.outer_optimizer = pcclOuterSgd;
    world.config.outer_learning_rate = 0.5F;
    const auto log = one(world, 1);
    double slow = 0.5;
    for (int round = 0; round < 6; ++round) {
        double fast = slow;
        for (int k = 0; k < 10; ++k)
            fast -= static_cast<double>(kInnerRate) * (fast - static_cast<double>(target(0, 0)));
        slow += 0.5 * (fast - slow);
    }
    EXPECT_NEAR(log.final[0], slow, 1e-5);
}

TEST(SpecialCase, OnePeerAtRateOneIsItsInnerOptimizer) {
    World world(pcclMethodDiLoCo);
    world.config.outer_optimizer = pcclOuterSgd;
    world.config.outer_learning_rate = 1.0F;
    world.inner = [](Values &w, int, std::uint64_t step) {
        for (float &x : w)
            x = std::ldexp(std::round(std::ldexp(x, 3)), -3) +
                0.125F * static_cast<float>(step % 3);  // multiples of 1/8 are exact
    };
    const auto log = one(world, 1);
    Values alone(world.elements);
    for (std::size_t i = 0; i < alone.size(); ++i)
        alone[i] = 0.5F + 0.125F * static_cast<float>(i % 11);
    for (std::uint64_t s = 0; s < world.steps; ++s)
        world.inner(alone, 0, s);
    EXPECT_EQ(log.final, alone);
}

TEST(SpecialCase, OneInnerStepOfSgdIsDataParallelSgdOrNesterov) {
    for (const bool momentum : {false, true}) {
        World world(pcclMethodDiLoCo);
        world.config.sync_every = 1;
        world.config.outer_optimizer = momentum ? pcclOuterNesterov : pcclOuterSgd;
        world.config.outer_learning_rate = momentum ? 0.05F : 1.0F;
        world.inner = [&](Values &w, int id, std::uint64_t) {
            for (std::size_t i = 0; i < w.size(); ++i)
                w[i] -= (momentum ? 1.0F : 0.1F) * (w[i] - target(id, i));
        };
        world.steps = 30;
        const auto log = one(world, 3);
        for (std::size_t i = 0; i < log.final.size(); ++i) {
            double p = 0.5 + 0.125 * static_cast<double>(i % 11), v = 0.0;
            for (int s = 0; s < 30; ++s) {
                double g = 0.0;
                for (int id = 0; id < 3; ++id)
                    g += (p - static_cast<double>(target(id, i))) / 3.0;
                v = 0.9 * v + g;
                p -= momentum ? 0.05 * (g + 0.9 * v) : 0.1 * g;
            }
            ASSERT_NEAR(log.final[i], p, 1e-4) << i;
        }
    }
}

TEST(SpecialCase, IdenticalPeersMoveAsOnePeer) {
    const Inner alike = [](Values &w, int, std::uint64_t step) { descend(w, 0, step); };
    World a(pcclMethodDiLoCo), b(pcclMethodDiLoCo);
    a.inner = b.inner = alike;
    EXPECT_EQ(one(a, 1).final, one(b, 4).final);  // the sum of four equal numbers and a quarter of it are exact
}

TEST(SpecialCase, NothingMovesWithoutInnerSteps) {
    for (const auto method :
         {pcclMethodDiLoCo, pcclMethodAsyncDiLoCo, pcclMethodEagerDiLoCo, pcclMethodStreamingDiLoCo, pcclMethodCO2}) {
        World world(method);
        world.inner = [](Values &, int, std::uint64_t) {};
        const auto log = one(world, 3);
        for (std::size_t i = 0; i < log.final.size(); ++i)
            ASSERT_EQ(log.final[i], 0.5F + 0.125F * static_cast<float>(i % 11));
    }
}

TEST(SpecialCase, StreamingOfOneFragmentWithoutDelayIsDiLoCo) {
    World a(pcclMethodDiLoCo), b(pcclMethodStreamingDiLoCo);
    b.config.outer_learning_rate = a.config.outer_learning_rate;
    b.config.fragments = 1;
    b.config.overlap_steps = 0;
    b.config.mixing = 0.0F;
    EXPECT_EQ(one(a, 3).outer, one(b, 3).outer);
}

TEST(SpecialCase, StreamingWithMixingOneIsTrainingAlone) {
    World world(pcclMethodStreamingDiLoCo);
    world.config.mixing = 1.0F;
    std::mutex mutex;
    std::map<int, Values> last;
    world.inner = [&](Values &w, int id, std::uint64_t step) {
        descend(w, id, step);
        const std::lock_guard lock(mutex);
        last[id] = w;
    };
    one(world, 2);
    for (int id = 0; id < 2; ++id) {
        Values alone(world.elements);
        for (std::size_t i = 0; i < alone.size(); ++i)
            alone[i] = 0.5F + 0.125F * static_cast<float>(i % 11);
        for (std::uint64_t s = 0; s < world.steps; ++s)
            descend(alone, id, s);
        EXPECT_EQ(last[id], alone);
    }
}

TEST(SpecialCase, OverlapWithoutTrainingHasNoEffect) {
    World a(pcclMethodStreamingDiLoCo), b(pcclMethodStreamingDiLoCo);
    for (World *world : {&a, &b}) {
        world->config.fragments = 1;
        world->config.mixing = 0.0F;
        world->inner = [](Values &w, int id, std::uint64_t step) {
            if (step % 10 >= 3) descend(w, id, step);  // not in the first three steps of a round
        };
    }
    a.config.overlap_steps = 0;
    b.config.overlap_steps = 3;
    const auto with = one(b, 3).outer, without = one(a, 3).outer;
    for (const auto &[step, values] : with)
        EXPECT_EQ(values, without.at(step));
}

TEST(SpecialCase, EagerWithOnePeerIsDiLoCoWithoutDelay) {
    World a(pcclMethodDiLoCo), b(pcclMethodEagerDiLoCo);
    b.config.outer_optimizer = a.config.outer_optimizer;
    b.config.outer_learning_rate = a.config.outer_learning_rate;
    b.config.outer_momentum = a.config.outer_momentum;
    const auto synchronous = one(a, 1).outer, eager = one(b, 1).outer;
    ASSERT_EQ(eager.size(), synchronous.size());
    for (const auto &[step, values] : eager)
        for (std::size_t i = 0; i < values.size(); ++i)
            ASSERT_NEAR(values[i], synchronous.at(step)[i], 1e-4F);
}

TEST(SpecialCase, PlainCO2IsAsyncDiLoCoWithSgd) {
    World a(pcclMethodAsyncDiLoCo), b(pcclMethodCO2);
    b.config.outer_learning_rate = a.config.outer_learning_rate;
    b.config.outer_momentum = 0.0F;
    b.config.penalty_mode = pcclPenaltyNone;
    EXPECT_EQ(one(a, 3).outer, one(b, 3).outer);
}

TEST(SpecialCase, CO2NeverMovesFartherThanItsBound) {
    World world(pcclMethodCO2);
    world.config.clip_momentum = 0.01F;
    const auto log = one(world, 3);
    const Values *before = nullptr;
    float largest = 0.0F;
    for (const auto &[step, values] : log.outer) {
        for (std::size_t i = 0; before && i < values.size(); ++i)
            largest = std::max(largest, std::abs(values[i] - (*before)[i]));
        before = &values;
    }
    EXPECT_LE(largest, 0.01F * 1.0001F);
    EXPECT_GT(largest, 0.009F);
    EXPECT_GE(log.status.penalty, 1.0);
}

TEST(Sharded, StepsEqualStepsWithoutShards) {
    for (const auto method : {pcclMethodDiLoCo, pcclMethodAsyncDiLoCo, pcclMethodCO2}) {
        for (const int peers : {1, 2, 3, 7}) {
            World whole(method), sharded(method);
            for (World *world : {&whole, &sharded}) {
                world->config.outer_learning_rate = 0.3F;
                world->config.clip_momentum = method == pcclMethodCO2 ? 0.3F : 0.0F;
            }
            sharded.config.sharded = true;
            const auto expected = one(whole, peers), found = one(sharded, peers);
            EXPECT_EQ(found.outer, expected.outer) << method << " with " << peers << " peers";
            EXPECT_EQ(found.status.penalty, expected.status.penalty);
        }
    }
}

TEST(Sharded, MomentumOfRemainingMembersIsKept) {
    World world(pcclMethodDiLoCo);
    world.config.sharded = true;
    world.config.sync_every = 5;
    world.inner = [](Values &w, int, std::uint64_t step) { descend(w, 0, step); };  // equal at all peers
    world.joins_at[1] = 12;
    World alone(pcclMethodDiLoCo);
    alone.config.sync_every = 5;
    alone.inner = world.inner;
    const auto with = world.train(1), without = alone.train(1);
    ASSERT_GT(with.at(1).outer.size(), 3U);
    EXPECT_EQ(with.at(0).outer, without.at(0).outer);
}

TEST(Weights, AverageByTheWorkOfEachPeer) {
    for (const bool quantized : {false, true}) {  // one collective, or two that belong together
        World world(pcclMethodDiLoCo);
        world.config.weighted = true;
        world.config.outer_optimizer = pcclOuterSgd;
        world.config.outer_learning_rate = 1.0F;
        if (quantized) world.config.quantization = {pcclUint8, pcclQuantMinMax};  // a FakeRun ignores it
        world.steps = 10;
        world.before_step = [](Trainer &trainer, int id, std::uint64_t) { ASSERT_TRUE(trainer.add_weight(100.0 * id).ok()); };
        const auto log = one(world, 4);
        for (std::size_t i = 0; i < log.final.size(); ++i) {
            double sum = 0.0;
            for (int id = 0; id < 4; ++id) {  // peer 0 has weight 0 and does not count
                double w = 0.5 + 0.125 * static_cast<double>(i % 11);
                for (int k = 0; k < 10; ++k)
                    w -= static_cast<double>(kInnerRate) * (w - static_cast<double>(target(id, i)));
                sum += id * w;
            }
            ASSERT_NEAR(log.final[i], sum / 6.0, 1e-5);
        }
    }
}

TEST(Weights, ChangeNothingIfAllAreZero) {
    World world(pcclMethodDiLoCo);
    world.config.weighted = true;
    world.before_step = [](Trainer &trainer, int, std::uint64_t) { ASSERT_TRUE(trainer.add_weight(0.0).ok()); };
    const auto log = one(world, 2);
    EXPECT_EQ(log.status.outer_steps, 0U);
    EXPECT_EQ(log.final[0], 0.5F);
}

TEST(Due, IsTrueExactlyForStepsThatTouchParameters) {
    for (const auto method : {pcclMethodLocal, pcclMethodDiLoCo, pcclMethodAsyncDiLoCo, pcclMethodEagerDiLoCo,
                              pcclMethodStreamingDiLoCo, pcclMethodCO2}) {
        World world(method);
        world.config.outer_learning_rate = 0.3F;
        std::mutex mutex;
        std::map<std::uint64_t, Values> before;
        std::set<std::uint64_t> due, changed;
        Values *parameters = nullptr;
        world.inner = [&](Values &w, int id, std::uint64_t step) {
            descend(w, id, step);
            if (id != 0) return;
            parameters = &w;
            before[step] = w;
        };
        world.before_step = [&](Trainer &trainer, int id, std::uint64_t step) {
            if (id != 0) return;
            // True if the previous step changed the parameters by more than this step's own descent.
            if (trainer.is_due()) due.insert(step);
            if (step == 0) return;
            Values expected = before[step - 1];
            descend(expected, 0, step);
            if (expected != *parameters) changed.insert(step - 1);
        };
        one(world, method == pcclMethodLocal ? 1 : 2);
        EXPECT_TRUE(std::ranges::includes(due, changed)) << method;
        EXPECT_EQ(due.empty(), method == pcclMethodLocal);
        EXPECT_LE(due.size(), method == pcclMethodStreamingDiLoCo ? 24U : 6U) << method;
    }
}

TEST(Timing, DoesNotChangeTheResult) {
    for (const auto method :
         {pcclMethodDiLoCo, pcclMethodAsyncDiLoCo, pcclMethodEagerDiLoCo, pcclMethodStreamingDiLoCo, pcclMethodCO2}) {
        World quick(method);
        const auto expected = one(quick, 3).outer;
        for (const std::uint64_t seed : {1U, 2U, 3U}) {
            World slow(method);
            slow.jitter_seed = seed;
            EXPECT_EQ(one(slow, 3).outer, expected) << "seed " << seed;
        }
    }
}

}  // namespace
}  // namespace pccl::train
