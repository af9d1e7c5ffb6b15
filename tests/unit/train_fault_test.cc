// Peers are lost at any call and newcomers join in any round. The survivors always hold the same bits.
#include <vector>

#include "unit/train_world.h"

namespace pccl::train {
namespace {

struct Case {
    pcclMethod_t method;
    pcclNewcomers_t newcomers;
    bool sharded = false;
};

const std::vector<Case> kCases = {
    {pcclMethodDiLoCo, pcclNewcomersDrain},
    {pcclMethodAsyncDiLoCo, pcclNewcomersDrain},
    {pcclMethodAsyncDiLoCo, pcclNewcomersSharePending},
    {pcclMethodAsyncDiLoCo, pcclNewcomersResync},
    {pcclMethodEagerDiLoCo, pcclNewcomersDrain},
    {pcclMethodStreamingDiLoCo, pcclNewcomersDrain},
    {pcclMethodCO2, pcclNewcomersSharePending},
    {pcclMethodDiLoCo, pcclNewcomersDrain, true},
    {pcclMethodCO2, pcclNewcomersDrain, true},
    {pcclMethodCO2, pcclNewcomersResync, true},
};

void set_up(World &world, const Case &c) {
    world.config.newcomers = c.newcomers;
    world.config.sharded = c.sharded;
    world.config.sync_every = 5;
    world.config.outer_learning_rate = 0.3F;
    if (c.method == pcclMethodStreamingDiLoCo) world.config.overlap_steps = 2;
    world.steps = 25;
    world.elements = 20;
}

/// Expects that all survivors finish with the same bits.
void expect_survival(World &world, const std::map<int, Log> &logs, const std::string &what) {
    SCOPED_TRACE(what);
    expect_parity(logs);
    std::size_t finished = 0;
    for (const auto &[id, log] : logs) {
        if (log.outcome.code == pcclMasterConnectionFailed)
            continue;                     // it was killed, or asked to join after the others had finished
        if (log.outer.empty()) continue;  // it did not join
        EXPECT_TRUE(log.outcome.ok()) << "peer " << id << ": " << log.outcome.why;
        EXPECT_EQ(log.status.inner_steps, world.steps) << "peer " << id;
        ++finished;
    }
    EXPECT_GT(finished, 0U);
}

TEST(Loss, AtAnyCallLeavesTheSurvivorsWithTheSameBits) {
    for (const Case &c : kCases) {
        World undisturbed(c.method);
        set_up(undisturbed, c);
        expect_survival(undisturbed, undisturbed.train(3), "no loss");
        const int calls = undisturbed.run.calls(1);
        ASSERT_GT(calls, 15);
        for (int at = 1; at <= calls; ++at) {
            World world(c.method);
            set_up(world, c);
            world.config.min_peers = 1;
            world.run.kill_at(1, at);
            // A peer that is lost before it has joined must not be waited for.
            world.joins_at[1] = 0;
            world.joins_at[2] = 0;
            expect_survival(world, world.train(1),
                            "method " + std::to_string(c.method) + "/" + std::to_string(c.newcomers) +
                                (c.sharded ? " sharded" : "") + ", killed at call " + std::to_string(at));
        }
    }
}

TEST(Newcomer, HasTheSameBitsAfterItsFirstOuterStep) {
    for (const Case &c : kCases) {
        for (std::uint64_t at = 0; at < 20; ++at) {
            World world(c.method);
            set_up(world, c);
            world.steps = 40;  // the question of an outer step may have been asked before the newcomer asked to join
            world.joins_at[1] = 0;
            world.joins_at[2] = at;
            const auto logs = world.train(1);
            expect_survival(world, logs,
                            "method " + std::to_string(c.method) + "/" + std::to_string(c.newcomers) +
                                (c.sharded ? " sharded" : "") + ", joining at " + std::to_string(at));
            EXPECT_EQ(logs.at(0).received, 0U) << "a member received a state that it already had";
            const std::uint64_t bytes = c.newcomers == pcclNewcomersResync ? 2 : 1;
            EXPECT_LE(logs.at(2).received, bytes);
            EXPECT_EQ(logs.at(2).final, logs.at(0).final);
            EXPECT_EQ(logs.at(2).status.world_size, 3U);
        }
    }
}

TEST(Newcomer, JoinsWhileAPeerIsLostAtAnyCall) {
    for (const Case &c : kCases) {
        for (const int victim : {0, 1, 2}) {
            for (int at = victim == 0 ? 6 : 2; at <= 36; ++at) {  // peer 0 is a member before the others
                World world(c.method);
                set_up(world, c);
                world.joins_at[1] = 0;
                world.joins_at[2] = 7;
                world.run.kill_at(victim, at);
                expect_survival(world, world.train(1),
                                "method " + std::to_string(c.method) + "/" + std::to_string(c.newcomers) +
                                    (c.sharded ? " sharded" : "") + ", peer " + std::to_string(victim) + " killed at call " +
                                    std::to_string(at));
            }
        }
    }
}

TEST(Divergence, IsDetectedAndRepairedFromTheOthers) {
    World world(pcclMethodDiLoCo);
    world.config.sync_every = 5;
    std::atomic<bool> done{false};
    world.before_step = [&](Trainer &trainer, int id, std::uint64_t step) {
        if (id != 2 || step != 12 || done.exchange(true)) return;
        // One bit of a peer's state changes, as after a memory fault.
        struct Reach : Trainer {
            static OuterState &of(Trainer &t) { return static_cast<Reach &>(t).state_; }
        };
        Reach::of(trainer).parameters[3] += 1.0F;
    };
    const auto logs = world.train(3);
    for (const auto &[id, log] : logs) {
        EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
        EXPECT_NE(log.events & PCCL_TRAINER_DIVERGED, 0U);
        EXPECT_EQ(log.final, logs.at(0).final);
    }
    EXPECT_EQ(logs.at(2).received, 1U);
    EXPECT_EQ(logs.at(0).received, 0U);
}

}  // namespace
}  // namespace pccl::train
