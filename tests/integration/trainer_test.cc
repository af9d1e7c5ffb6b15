// Trainers over real processes: all methods while a peer is killed and another joins, and a master that is killed and restarted.
#include "harness/master_process.h"
#include "harness/world.h"

#include <map>

#include <pccl/train.h>

namespace pccl::itest {
namespace {

struct Method {
    const char *name;
    pcclMethod_t method;
    pcclNewcomers_t newcomers = pcclNewcomersDrain;
    bool weighted = false;
    const char *quant = "none";  ///< with error feedback if quantized and not weighted
    bool repair = false;  ///< averages continue among the survivors; outer states are compared at each average, as by default
};

class Trainers {
public:
    explicit Trainers(const WorldOptions &options = {}) : world_(options) {}

    void start(const Method &m, int count, Json more = Json::object()) {
        for (int i = 0; i < count; ++i) {
            world_.spawn();
            launch(m, more);
        }
    }
    void add(const Method &m, Json more = Json::object()) {
        world_.spawn();
        launch(m, std::move(more));
    }

    /// Waits until peer `i` has reported an outer step in a world of that size.
    void await_world(std::size_t i, int world) {
        for (;;) {
            const Json event = world_[i].next_event();
            check(event);
            if (event.at("world") == world) return;
        }
    }
    void kill(std::size_t i) {
        world_[i].kill();
        world_.erase(i);
        calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(i));
    }

    /// Expects that all peers finish with the same model.
    void finish() {
        std::vector<Json> answers;
        for (std::size_t i = 0; i < world_.size(); ++i) {
            answers.push_back(world_[i].finish(calls_[i], Millis(60'000)));
            for (const Json &event : world_[i].take_events())
                check(event);
        }
        EXPECT_TRUE(all_have_code(answers, pcclSuccess));
        EXPECT_TRUE(all_same(answers, "final"));
        EXPECT_TRUE(all_same(answers, "inner_steps"));
        for (const Json &answer : answers)
            EXPECT_EQ(answer.at("events").get<std::uint32_t>() & PCCL_TRAINER_DIVERGED, 0U);
        EXPECT_GT(outer_.size(), 5U);
    }

    World &world() { return world_; }

private:
    void launch(const Method &m, Json arguments) {
        arguments["method"] = static_cast<int>(m.method);
        arguments["newcomers"] = static_cast<int>(m.newcomers);
        arguments["weighted"] = m.weighted;
        arguments["quant"] = m.quant;
        arguments["repair"] = m.repair;
        arguments["error_feedback"] = !m.weighted && std::string(m.quant) != "none";
        arguments["target"] = 1.0 + static_cast<double>(launched_++);
        calls_.push_back(world_[world_.size() - 1].start("train", arguments));
    }

    /// Expects that all reports of an outer step have the same hash.
    void check(const Json &event) {
        const auto [found, is_new] = outer_.try_emplace(event.at("outer").get<std::uint64_t>(), event.at("hash"));
        EXPECT_EQ(found->second, event.at("hash")) << "outer step " << found->first;
    }

    World world_;
    std::vector<int> calls_;
    std::map<std::uint64_t, Json> outer_;
    int launched_ = 0;
};

class EveryMethod : public ::testing::TestWithParam<Method> {};

TEST_P(EveryMethod, KeepsEqualBitsWhenAPeerIsKilledAndAnotherJoins) {
    Trainers trainers;
    const Json more = {{"steps", 1500}, {"pause_us", 500}};
    trainers.start(GetParam(), 3, more);
    trainers.await_world(0, 3);
    trainers.kill(1);
    trainers.await_world(0, 2);
    trainers.add(GetParam(), more);
    trainers.await_world(0, 3);
    trainers.finish();
}

INSTANTIATE_TEST_SUITE_P(
    Trainer, EveryMethod,
    ::testing::Values(Method{"diloco", pcclMethodDiLoCo}, Method{"weighted", pcclMethodDiLoCo, pcclNewcomersDrain, true},
                      Method{"weighted_and_quantized", pcclMethodDiLoCo, pcclNewcomersDrain, true, "minmax:u8"},
                      Method{"four_bits", pcclMethodDiLoCo, pcclNewcomersDrain, false, "blockscale:u4"},
                      Method{"two_bits", pcclMethodDiLoCo, pcclNewcomersDrain, false, "blockscale:u2"},
                      Method{"two_bits_of_ranges", pcclMethodDiLoCo, pcclNewcomersDrain, false, "minmax:u2"},
                      Method{"repaired", pcclMethodDiLoCo, pcclNewcomersDrain, false, "none", true},
                      Method{"async_repaired", pcclMethodAsyncDiLoCo, pcclNewcomersDrain, false, "none", true},
                      Method{"async_draining", pcclMethodAsyncDiLoCo},
                      Method{"async_sharing", pcclMethodAsyncDiLoCo, pcclNewcomersSharePending},
                      Method{"async_resync", pcclMethodAsyncDiLoCo, pcclNewcomersResync}, Method{"eager", pcclMethodEagerDiLoCo},
                      Method{"streaming", pcclMethodStreamingDiLoCo}, Method{"co2", pcclMethodCO2}),
    [](const auto &param) { return param.param.name; });

TEST(Trainer, ContinuesWhenTheMasterIsKilledAndRestarted) {
    MasterProcess master;
    master.start();
    WorldOptions options;
    options.master = master.address();
    Trainers trainers(options);
    trainers.start({"async", pcclMethodAsyncDiLoCo}, 3, {{"steps", 2000}, {"pause_us", 500}});
    trainers.await_world(0, 3);
    for (int i = 0; i < 3; ++i) {
        master.kill();
        master.start();
        trainers.await_world(0, 3);
    }
    trainers.finish();
}

TEST(Trainer, PeerWithAnotherConfigurationIsRefused) {
    Trainers trainers;
    trainers.start({"diloco", pcclMethodDiLoCo}, 2, {{"steps", 600}});
    trainers.await_world(0, 2);
    PeerProcess &other = trainers.world().spawn();
    const Json answer = other.call("train", {{"method", 1}, {"sync_every", 7}, {"steps", 600}});
    EXPECT_TRUE(has_code(answer, pcclInvalidUsage));
    EXPECT_NE(answer.at("error").get<std::string>().find("every 7 steps"), std::string::npos) << answer;
    trainers.world().erase(2);
    trainers.finish();
}

TEST(Trainer, ReportsALostMasterAndJoinsTheNextOne) {
    MasterProcess master;
    master.start();
    WorldOptions options;
    options.master = master.address();
    World world(options);
    PeerProcess &peer = world.spawn({.master_limit_ms = 300});
    const int call = peer.start("train", {{"steps", 1'000'000}, {"rejoin_ms", 300}});
    static_cast<void>(peer.next_event());
    master.kill();
    EXPECT_TRUE(has_code(peer.finish(call), pcclMasterConnectionFailed));
    master.use_journal(master.folder() + "/another");
    master.start();
    const Json again = peer.call("train", {{"steps", 50}});
    EXPECT_TRUE(has_code(again, pcclSuccess));
    EXPECT_GE(again.at("inner_steps"), 50);
}

class EveryGossip : public ::testing::TestWithParam<Method> {};

TEST_P(EveryGossip, ContinuesWhenAPeerIsKilledAndAnotherJoins) {
    World world;
    const Json arguments = {{"method", static_cast<int>(GetParam().method)}, {"steps", 400}, {"pause_us", 1000}, {"count", 1000}};
    std::vector<int> calls;
    const auto start = [&] { calls.push_back(world.spawn().start("train", arguments)); };
    const auto await_world = [&](int size) {
        while (world[0].next_event().at("world") != size) {
        }
    };
    for (int i = 0; i < 3; ++i)
        start();
    await_world(3);
    world[1].kill();
    world.erase(1);
    calls.erase(calls.begin() + 1);
    await_world(2);
    start();
    await_world(3);
    for (std::size_t i = 0; i < world.size(); ++i) {
        const Json answer = world[i].finish(calls[i], Millis(60'000));
        EXPECT_TRUE(has_code(answer, pcclSuccess));
        EXPECT_NEAR(answer.at("mean").get<double>(), 1.0, 0.2) << "the optimum of all peers is 1";
    }
}

INSTANTIATE_TEST_SUITE_P(Trainer, EveryGossip,
                         ::testing::Values(Method{"gossip", pcclMethodGossip}, Method{"push_sum", pcclMethodPushSum}),
                         [](const auto &param) { return param.param.name; });

}  // namespace
}  // namespace pccl::itest
