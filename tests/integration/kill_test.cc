// Kills peers with SIGKILL a hundred times, at random times. No call hangs, no sum is wrong, all peers have the same outcomes,
// and the next operation succeeds within a second.
#include "harness/outcome_log.h"
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>
#include <thread>

namespace pccl::itest {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kPeers = 4;

/// Members that run a training loop, each with a slot number and a log file.
class TrainingWorld {
public:
    TrainingWorld(std::size_t count, bool in_place, std::string algorithm, bool sharded)
        : count_(count), in_place_(in_place), algorithm_(std::move(algorithm)), sharded_(sharded) {
        std::string pattern = (std::filesystem::temp_directory_path() / "pccl-kill-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
        world_.join(kPeers);
        for (int slot = 0; slot < kPeers; ++slot)
            train(slot);
    }
    ~TrainingWorld() { std::filesystem::remove_all(folder_); }
    TrainingWorld(const TrainingWorld &) = delete;
    TrainingWorld &operator=(const TrainingWorld &) = delete;

    std::uint64_t everyone() const {
        std::uint64_t bits = 0;
        for (const int slot : slots_)
            bits |= std::uint64_t{1} << slot;
        return bits;
    }

    /// Waits until every peer has had a success with exactly the current members.
    void await_everyone(Millis limit) {
        const auto end = Clock::now() + limit;
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            while (world_[i].next_event(std::max(std::chrono::ceil<Millis>(end - Clock::now()), Millis(1))).at("members") !=
                   everyone()) {
            }
        }
    }

    void kill(std::size_t victim) {
        world_[victim].kill();
        slots_.erase(slots_.begin() + static_cast<std::ptrdiff_t>(victim));
        world_.erase(victim);
    }

    void replace() {
        int slot = 0;
        while (everyone() >> slot & 1)
            ++slot;
        PeerProcess &newcomer = world_.spawn();
        tools::require("pcclConnect in a peer", code(newcomer.call("connect", {{"thread", 1}})));
        train(slot);
    }

    /// Loops that have ended, for the message of a failure. None should end before finish().
    void report_ended_loops() {
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            if (world_[i].answered(loops_[world_[i].name()])) {
                ADD_FAILURE() << world_[i].name() << " ended its loop: " << world_[i].finish(loops_[world_[i].name()]).dump();
            }
        }
    }

    /// Ends all loops at the same step and compares all logs.
    void finish() {
        world_[0].call("stop_loop");
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            const Json answer = world_[i].finish(loops_[world_[i].name()]);
            EXPECT_TRUE(has_code(answer, pcclSuccess));
        }
        std::vector<OutcomeLog> logs;
        for (const std::string &path : paths_)
            logs.push_back(read_outcome_log(path));
        std::size_t outcomes = 0;
        for (std::size_t i = 0; i < logs.size(); ++i) {
            outcomes += logs[i].size();
            for (std::size_t j = i + 1; j < std::min(logs.size(), i + 12); ++j) {
                EXPECT_TRUE(agree(logs[i], logs[j])) << paths_[i] << " and " << paths_[j];
            }
        }
        std::cout << outcomes << " outcomes at " << logs.size() << " peers agree\n";
    }

private:
    World world_;
    std::size_t count_;
    bool in_place_;
    std::string algorithm_;
    bool sharded_;  ///< reduce-scatter and all-gather
    std::string folder_;
    std::vector<int> slots_;  ///< slots of the peers of world_, in order
    std::vector<std::string> paths_;
    std::map<std::string, int> loops_;

    void train(int slot) {
        PeerProcess &peer = world_[slots_.size()];
        slots_.push_back(slot);
        paths_.push_back(folder_ + "/" + peer.name());
        loops_[peer.name()] = peer.start("loop", {{"slot", slot},
                                                  {"count", count_},
                                                  {"log", paths_.back()},
                                                  {"in_place", in_place_},
                                                  {"algorithm", algorithm_},
                                                  {"sharded", sharded_},
                                                  {"thread", 1}});
    }
};

constexpr Millis kStepLimit = Millis(10000) * kSlowdown;

/// Returns the time of the slowest recovery.
Millis kill_and_replace(TrainingWorld &world, int rounds, std::mt19937_64 &random) {
    world.await_everyone(kStepLimit);
    Millis slowest{0};
    for (int round = 0; round < rounds; ++round) {
        SCOPED_TRACE("round " + std::to_string(round));
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));  // the time of the kill is random on purpose
        const auto killed_at = Clock::now();
        world.kill(random() % kPeers);
        world.await_everyone(kStepLimit);
        const auto took = std::chrono::ceil<Millis>(Clock::now() - killed_at);
        slowest = std::max(slowest, took);
        EXPECT_LE(took, Millis(1000) * kSlowdown) << "time until the next success without the killed peer";
        world.replace();
        world.await_everyone(kStepLimit);
    }
    return slowest;
}

void kill_many_times(int rounds, std::size_t count, bool in_place, const std::string &algorithm = "auto", bool sharded = false) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    TrainingWorld world(count, in_place, algorithm, sharded);
    Millis slowest{0};
    try {
        slowest = kill_and_replace(world, rounds, random);
    } catch (const NoAnswer &failure) {
        world.report_ended_loops();
        FAIL() << failure.what();
    }
    std::cout << "slowest recovery: " << slowest.count() << " ms\n";
    world.finish();
}

TEST(Kill, SurvivorsContinueAHundredTimes) { kill_many_times(100, 32768, false); }

TEST(Kill, LargeReducesInPlaceSurvive) { kill_many_times(10, 4 << 20, true); }

TEST(Kill, OneHopReducesSurvive) { kill_many_times(30, 100000, false, "one-hop"); }

TEST(Kill, LargeOneHopReducesInPlaceSurvive) { kill_many_times(8, 4 << 20, true, "one-hop"); }

TEST(Kill, ReduceScattersAndAllGathersSurvive) { kill_many_times(30, 32768, false, "auto", true); }

TEST(Kill, LargeReduceScattersInPlaceSurvive) { kill_many_times(8, 4 << 20, true, "auto", true); }

TEST(Kill, OneHopReduceScattersSurvive) { kill_many_times(20, 100000, false, "one-hop", true); }

}  // namespace
}  // namespace pccl::itest
