// Islands: each process of an island holds a part of one copy of the model, with a group for each part. For every loss, an island
// continues with all its processes or with none, no process waits forever, and the others hold the same bits.
#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include "unit/train_world.h"

namespace pccl::train {
namespace {

constexpr int kParts = 2, kIslands = 3;

/// The meeting point of the processes of an island. The loss of a process breaks it.
class MeetingPlace {
public:
    static pcclResult_t agree(void *self, std::uint32_t question, std::uint64_t *value) {
        return static_cast<MeetingPlace *>(self)->meet(question, *value);
    }
    void break_up() {
        const std::lock_guard lock(mutex_);
        broken_ = true;
        changed_.notify_all();
    }
    bool parted() const { return parted_; }

private:
    pcclResult_t meet(std::uint32_t question, std::uint64_t &value) {
        std::unique_lock lock(mutex_);
        if (waiting_ != 0 && value != 0 && least_ != 0 && question != question_) parted_ = true;
        question_ = question;
        least_ = waiting_ == 0 ? value : std::min(least_, value);
        const std::uint64_t round = round_;
        if (++waiting_ == kParts) {
            answer_ = least_;
            waiting_ = 0;
            ++round_;
            changed_.notify_all();
        }
        changed_.wait(lock, [&] { return round_ != round || broken_; });
        if (round_ == round) return pcclRankConnectionLost;
        value = answer_;
        return pcclSuccess;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    bool broken_ = false, parted_ = false;
    int waiting_ = 0;
    std::uint32_t question_ = 0;
    std::uint64_t round_ = 0, least_ = 0, answer_ = 0;
};

struct Islands {
    pcclTrainerConfig_t config{};
    std::uint64_t steps = 25;
    std::array<FakeRun, kParts> runs;  ///< one per group
    std::array<MeetingPlace, kIslands> places;
    std::array<std::map<int, Log>, kParts> logs;
    std::function<void(Trainer &, int part, int island, std::uint64_t step)> before_step;

    explicit Islands(pcclMethod_t method) {
        set_defaults(config, method);
        config.sync_every = 5;
        config.outer_learning_rate = 0.3F;
        if (method == pcclMethodStreamingDiLoCo) config.overlap_steps = 2;
    }

    void train() {
        std::vector<std::thread> threads;
        for (FakeRun &run : runs)
            run.seat({0, 1, 2});
        for (int part = 0; part < kParts; ++part)
            for (int island = 0; island < kIslands; ++island)
                logs[static_cast<std::size_t>(part)][island];
        for (int part = 0; part < kParts; ++part)
            for (int island = 0; island < kIslands; ++island)
                threads.emplace_back([this, part, island] { live(part, island); });
        for (auto &thread : threads)
            thread.join();
    }

private:
    void live(int part, int island) {
        Log &log = logs[static_cast<std::size_t>(part)].at(island);
        FakeRun &run = runs[static_cast<std::size_t>(part)];
        MeetingPlace &place = places[static_cast<std::size_t>(island)];
        Values w(20, static_cast<float>(1 + part));
        std::vector<Parameter> parameters = {{"a", w.data(), 10, pcclFloat}, {"b", w.data() + 10, 10, pcclFloat}};
        pcclTrainerConfig_t mine = config;
        mine.island_consensus = MeetingPlace::agree;
        mine.agree_context = &place;
        std::unique_ptr<Trainer> trainer;
        log.outcome = Trainer::make(mine, run.peer(island), parameters, trainer);
        if (log.outcome.ok()) log.outcome = trainer->join();
        while (log.outcome.ok() && trainer->status().inner_steps < steps) {
            const std::uint64_t step = trainer->status().inner_steps;
            descend(w, island, step);
            if (before_step) before_step(*trainer, part, island, step);
            log.outcome = trainer->step(false);
            const auto status = trainer->status();
            log.events |= status.events;
            if ((status.events & PCCL_TRAINER_OUTER_STEP) != 0 && log.outcome.ok()) {
                Values outer(20);
                EXPECT_TRUE(trainer->outer_parameters(0, outer.data()).ok());
                EXPECT_TRUE(trainer->outer_parameters(1, outer.data() + 10).ok());
                log.outer[status.outer_steps] = outer;
            }
        }
        if (log.outcome.ok()) log.outcome = trainer->finish();
        log.status = trainer->status();
        log.final = w;
        if (run.is_dead(island)) place.break_up();  // its process has ended, which the others of the island notice
        run.leave(island);
    }
};

void expect_whole(Islands &world, int victim) {
    for (int part = 0; part < kParts; ++part) {
        const auto &logs = world.logs[static_cast<std::size_t>(part)];
        expect_parity(logs);
        for (const auto &[island, log] : logs) {
            if (island == victim) continue;
            EXPECT_TRUE(log.outcome.ok()) << "island " << island << ", part " << part << ": " << log.outcome.why;
            EXPECT_EQ(log.status.inner_steps, world.steps);
            EXPECT_EQ(log.final, logs.at(victim == 0 ? 1 : 0).final);
        }
    }
    for (const MeetingPlace &place : world.places)
        EXPECT_FALSE(place.parted());
}

TEST(Island, EndsIfItLosesAProcessAndTheOthersContinue) {
    for (const auto method :
         {pcclMethodDiLoCo, pcclMethodAsyncDiLoCo, pcclMethodEagerDiLoCo, pcclMethodStreamingDiLoCo, pcclMethodCO2}) {
        Islands undisturbed(method);
        undisturbed.train();
        expect_whole(undisturbed, -1);
        const int calls = undisturbed.runs[0].calls(1);
        ASSERT_GT(calls, 15);
        for (int at = 1; at <= calls; ++at) {
            SCOPED_TRACE("method " + std::to_string(method) + ", killed at call " + std::to_string(at));
            Islands world(method);
            world.runs[0].kill_at(1, at);
            world.train();
            expect_whole(world, 1);
            EXPECT_FALSE(world.logs[0].at(1).outcome.ok());
            EXPECT_FALSE(world.logs[1].at(1).outcome.ok()) << "the other half of a copy continued";
        }
    }
}

TEST(Island, DivergedPartIsRepairedWithoutTheOthers) {
    Islands world(pcclMethodDiLoCo);
    std::atomic<bool> done{false};
    world.before_step = [&](Trainer &trainer, int part, int island, std::uint64_t step) {
        if (part != 1 || island != 2 || step != 7 || done.exchange(true)) return;
        struct Reach : Trainer {
            static OuterState &of(Trainer &t) { return static_cast<Reach &>(t).state_; }
        };
        Reach::of(trainer).parameters[3] += 1.0F;
    };
    world.train();
    for (std::size_t part = 0; part < kParts; ++part) {
        const auto &logs = world.logs[part];
        for (const auto &[island, log] : logs) {
            EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
            EXPECT_EQ((log.events & PCCL_TRAINER_DIVERGED) != 0, part == 1);
            EXPECT_EQ(log.final, logs.at(0).final);
        }
    }
}

TEST(Island, IsRefusedForGossipAndForTimedRounds) {
    for (const auto method : {pcclMethodGossip, pcclMethodDiLoCo}) {
        pcclTrainerConfig_t config, read;
        set_defaults(config, method);
        config.island_consensus = MeetingPlace::agree;
        config.weighted = method == pcclMethodDiLoCo;
        config.round_ms = method == pcclMethodDiLoCo ? 100 : 0;
        const auto outcome = read_config(&config, read);
        EXPECT_EQ(outcome.code, pcclInvalidArgument);
        EXPECT_THAT(outcome.why, testing::HasSubstr("island_consensus"));
    }
}

}  // namespace
}  // namespace pccl::train
