// See trainer.h.
#include "churn/trainer.h"

#include "common/handles.h"
#include "common/membership_sum.h"
#include "common/mix.h"

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

namespace pccl::churn {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::array<std::size_t, 5> kCounts = {3, 40, 5000, 65537, 262144};
constexpr std::size_t kWeights = 400000;
constexpr int kConnectAttempts = 100;

std::atomic<bool> leave{false};

void say(const char *kind, const std::string &words = {}) {
    std::printf("%s %s\n", kind, words.c_str());
    std::fflush(stdout);
}

/// The master is lost or has removed this trainer, which is not an error of the run.
struct Removed {
    std::string words;
};

/// Reports the call in which a trainer without steps is.
class Watchdog {
public:
    void in(const char *where) { where_ = where; }
    void progress() { steps_.fetch_add(1); }

private:
    std::atomic<const char *> where_{"start"};
    std::atomic<std::uint64_t> steps_{0};
    std::jthread thread_{[this](const std::stop_token &stop) { watch(stop); }};

    void watch(const std::stop_token &stop) {
        std::uint64_t seen = 0;
        int quiet = 0;
        while (!stop.stop_requested()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
            const std::uint64_t now = steps_;
            quiet = now == seen ? quiet + 1 : 0;
            seen = now;
            if (quiet > 0 && quiet % 50 == 0)
                say("stuck", std::string(where_.load()) + " for " + std::to_string(quiet / 5) + " s");
        }
    }
};

class Trainer {
public:
    explicit Trainer(const Options &options)
        : options_(options), random_(tools::mix(options.seed) ^ static_cast<std::uint64_t>(options.slot)), weights_(kWeights, 0) {
        for (std::size_t i = 0; i < kCounts.size(); ++i) {
            send_.emplace_back(kCounts[i]);
            receive_.emplace_back(kCounts[i]);
        }
    }

    void run() {
        create();
        bool just_joined = true;
        connect();
        while (!leave) {
            try {
                if (!just_joined) admit();
                just_joined = false;
                step();
            } catch (const Removed &removed) {
                say("removed", removed.words);
                if (random_() % 2 == 0) {
                    create();
                    next_revision_ = 0;  // as in a restarted program; other trainers rejoin with their former state
                }
                connect();
                just_joined = true;
            }
        }
        comm_.reset();
    }

private:
    const Options &options_;
    std::mt19937_64 random_;
    Watchdog watchdog_;
    tools::Comm comm_;
    std::uint64_t next_revision_ = 0;  ///< the revision to offer in the next synchronization
    std::uint64_t step_ = 0;           ///< the revision agreed on: the number of the step that is being made
    std::vector<std::uint64_t> weights_;
    std::vector<std::vector<std::uint64_t>> send_;
    std::vector<std::vector<std::uint64_t>> receive_;

    void create() {
        comm_.reset();
        pcclCommConfig_t config{};
        tools::require("pcclCommConfigInit", pcclCommConfigInit(&config));
        config.master_address = options_.trainer_master.c_str();
        config.master_limit_ms = options_.master_limit_ms;
        config.p2p_connection_pool_size = static_cast<std::uint32_t>(random_() % 4);
        pcclComm_t *comm = nullptr;
        tools::require("pcclCreateCommunicatorWithConfig", pcclCreateCommunicatorWithConfig(&config, &comm));
        comm_.reset(comm);
    }

    /// Other trainers can die while this one connects, so it tries again as a program does.
    void connect() {
        watchdog_.in("pcclConnect");
        for (int attempt = 0; !leave; ++attempt) {
            const pcclResult_t result = pcclConnect(comm_.get());
            if (result == pcclSuccess) return say("joined");
            const bool retry =
                result == pcclMasterConnectionFailed || result == pcclRankConnectionFailed || result == pcclRankConnectionLost;
            if (!retry || attempt == kConnectAttempts) throw tools::CallFailed("pcclConnect", result);
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
    }

    /// Returns on success or a loss. Every other code ends the trainer or its membership.
    pcclResult_t filter(const char *call, pcclResult_t result) {
        if (result == pcclMasterConnectionFailed) throw Removed{std::string(call) + ": " + pcclGetLastError()};
        if (result != pcclSuccess && result != pcclRankConnectionLost && result != pcclTooFewPeers)
            throw tools::CallFailed(call, result);
        return result;
    }

    void admit() {
        watchdog_.in("pcclArePeersPending");
        bool pending = false;
        if (filter("pcclArePeersPending", pcclArePeersPending(comm_.get(), &pending)) != pcclSuccess || !pending) return;
        watchdog_.in("pcclUpdateTopology");
        static_cast<void>(filter("pcclUpdateTopology", pcclUpdateTopology(comm_.get())));
    }

    void step() {
        int size = 0;
        static_cast<void>(filter("pcclGetAttribute", pcclGetAttribute(comm_.get(), PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE, &size)));
        if (size < 2) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            return;
        }
        if (!synchronize()) return;
        std::array<tools::MembershipSum, kCounts.size()> sums{};
        if (!reduce_two_in_flight(sums) || !reduce_with_retry(sums)) return;
        // The value is equal at all members, because the fingerprints are equal.
        for (std::size_t i = 0; i < weights_.size(); i += 97)
            weights_[i] += sums[i % sums.size()].digest * (i + 1);
        std::uint64_t hash = step_;
        for (std::size_t i = 0; i < weights_.size(); i += 97)
            hash = tools::mix(hash ^ weights_[i]);
        say("step", std::to_string(step_) + " " + std::to_string(hash));
        watchdog_.progress();
    }

    /// Returns false if the step must be repeated from the beginning.
    bool synchronize() {
        watchdog_.in("pcclSynchronizeSharedState");
        pcclTensorInfo_t info{"weights", weights_.data(), weights_.size(), pcclUint64, pcclDeviceCpu, false};
        pcclSharedState_t state{next_revision_, 1, &info};
        while (!leave) {
            const auto result =
                pcclSynchronizeSharedState(comm_.get(), &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, nullptr);
            if (filter("pcclSynchronizeSharedState", result) == pcclTooFewPeers) return false;
            if (result == pcclSuccess) break;
        }
        if (leave) return false;
        if (state.revision < next_revision_) say("wrong", "the revision went back from " + std::to_string(next_revision_));
        step_ = state.revision;
        next_revision_ = step_ + 1;
        return true;
    }

    pcclReduceDescriptor_t prepare(std::size_t i) {
        const tools::Contribution own{options_.slot, step_, random_() >> 8, 0};
        tools::fill_membership(own, send_[i].data(), send_[i].size());
        pcclReduceDescriptor_t d{};
        d.count = send_[i].size();
        d.tag = 10 + i;
        d.src_descriptor.datatype = pcclUint64;
        return d;
    }

    /// The last buffer is reduced in place.
    std::vector<std::uint64_t> &result(std::size_t i) { return i + 1 == kCounts.size() ? send_[i] : receive_[i]; }

    void judge(std::size_t i, const pcclReduceInfo_t &info, tools::MembershipSum &sum) {
        sum = tools::check_membership(step_, result(i).data(), result(i).size());
        const bool mine = (sum.members >> options_.slot & 1) != 0;
        if (sum.wrong == 0 && mine && (info.local_world_size == 0 || static_cast<int>(info.local_world_size) == sum.size()))
            return;
        say("wrong", std::to_string(sum.wrong) + " elements of " + std::to_string(kCounts[i]) + ", members " +
                         std::to_string(sum.members) + ", reported as " + std::to_string(info.local_world_size));
    }

    /// Operations 0 and 1, in flight at the same time and repeated until both succeed. Returns false if this trainer is alone.
    bool reduce_two_in_flight(std::array<tools::MembershipSum, kCounts.size()> &sums) {
        std::array<bool, 2> done{};
        while (!(done[0] && done[1])) {
            std::array<pcclAsyncReduceOp_t, 2> handles{};
            std::array<pcclResult_t, 2> launched{pcclSuccess, pcclSuccess};
            watchdog_.in("pcclAllReduceAsync");
            for (std::size_t n = 0; n < 2; ++n) {
                const std::size_t i = options_.slot % 2 == 0 ? n : 1 - n;  // the order differs from peer to peer
                if (done[i]) continue;
                const auto d = prepare(i);
                launched[i] = filter("pcclAllReduceAsync",
                                     pcclAllReduceAsync(send_[i].data(), result(i).data(), &d, comm_.get(), &handles[i]));
            }
            watchdog_.in("pcclAwaitAsyncReduce");
            bool alone = false;
            bool removed = false;
            std::string words;
            for (std::size_t i = 0; i < 2; ++i) {
                if (done[i]) continue;
                pcclReduceInfo_t info{};
                const auto outcome = launched[i] == pcclSuccess ? pcclAwaitAsyncReduce(&handles[i], &info) : launched[i];
                if (outcome == pcclMasterConnectionFailed) {
                    removed = true;
                    words = pcclGetLastError();
                    continue;  // the other one must be awaited as well
                }
                alone |= filter("pcclAwaitAsyncReduce", outcome) == pcclTooFewPeers;
                done[i] = outcome == pcclSuccess;
                if (done[i]) judge(i, info, sums[i]);
            }
            if (removed) throw Removed{"pcclAwaitAsyncReduce: " + words};
            if (alone || leave) return false;
        }
        return true;
    }

    bool reduce_with_retry(std::array<tools::MembershipSum, kCounts.size()> &sums) {
        std::vector<pcclReduceOpDescriptor_t> ops;
        for (std::size_t i = 2; i < kCounts.size(); ++i)
            ops.push_back({send_[i].data(), result(i).data(), prepare(i)});
        watchdog_.in("pcclAllReduceMultipleWithRetry");
        const auto outcome = filter("pcclAllReduceMultipleWithRetry",
                                    pcclAllReduceMultipleWithRetry(ops.data(), ops.size(), comm_.get(), nullptr, 2));
        if (outcome != pcclSuccess) return false;
        for (std::size_t i = 2; i < kCounts.size(); ++i)
            judge(i, {}, sums[i]);
        return true;
    }
};

}  // namespace

int run_trainer(const Options &options) {
    std::signal(SIGTERM, [](int) { leave = true; });
    try {
        tools::require("pcclInit", pcclInit());
        Trainer(options).run();
        return 0;
    } catch (const std::exception &error) {
        say("fatal", error.what());
        return 3;
    }
}

}  // namespace pccl::churn
