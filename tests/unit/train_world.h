// Peers that train a small model in threads of this process, over a FakeRun. Tests of methods compare them with references.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "train/config.h"
#include "train/trainer.h"
#include "unit/train_fake_run.h"

namespace pccl::train {

using Values = std::vector<float>;

/// Changes the parameters of peer `id` in inner step number `step` of the run, counted from 0.
using Inner = std::function<void(Values &w, int id, std::uint64_t step)>;

constexpr float kInnerRate = 0.1F;

/// The optimum of peer `id`.
inline float target(int id, std::size_t element) { return static_cast<float>(id + 1) + 0.25F * static_cast<float>(element % 7); }

/// One step of gradient descent on |w - target|^2 / 2.
inline void descend(Values &w, int id, std::uint64_t) {
    for (std::size_t i = 0; i < w.size(); ++i)
        w[i] -= kInnerRate * (w[i] - target(id, i));
}

struct Log {
    std::map<std::uint64_t, Values> outer;  ///< outer parameters by number of outer steps, after each call that changed them
    Values final;                           ///< parameters at the end
    Outcome outcome;
    pcclTrainerStatus_t status{};
    std::uint32_t events = 0;    ///< all events of the run
    std::uint64_t received = 0;  ///< calls in which state was received from others
};

struct World {
    pcclTrainerConfig_t config{};
    std::uint64_t steps = 60;
    std::size_t elements = 40;
    Inner inner = descend;
    /// Newcomers, each with an inner step of the run. Before that step the members wait until the newcomer asks for admission.
    std::map<int, std::uint64_t> joins_at;
    std::function<void(Trainer &, int id, std::uint64_t step)> before_step;
    std::uint64_t jitter_seed = 0;  ///< seed of the pauses before calls; 0: no pauses
    FakeRun run;

    explicit World(pcclMethod_t method) {
        set_defaults(config, method);
        config.sync_every = 10;
        config.rejoin_ms = 0;
    }

    /// Trains with peers 0 to `members` - 1 from the beginning, and returns the log of each peer.
    std::map<int, Log> train(int members) {
        config.min_peers = std::max<std::uint32_t>(config.min_peers, static_cast<std::uint32_t>(members));
        if (!joins_at.empty()) config.min_peers = 1;
        std::map<int, Log> logs;
        for (int id = 0; id < members; ++id)
            logs[id];
        for (const auto &[id, at] : joins_at)
            logs[id];
        std::vector<std::thread> threads;
        for (int id = 0; id < members; ++id)
            threads.emplace_back([this, id, &log = logs[id]] { live(id, log); });
        for (const auto &[id, at] : joins_at) {
            threads.emplace_back([this, id = id, at = static_cast<std::int64_t>(at), &log = logs[id]] {
                while (reached_ < at && !ended_)
                    std::this_thread::sleep_for(std::chrono::microseconds(20));
                if (ended_)
                    run.leave(id);  // it does not join
                else
                    live(id, log);
            });
        }
        for (auto &thread : threads)
            thread.join();
        return logs;
    }

private:
    void live(int id, Log &log) {
        Values w(elements);
        for (std::size_t i = 0; i < w.size(); ++i)
            w[i] =
                0.5F + 0.125F * static_cast<float>(i % 11) + static_cast<float>(100 * id);  // the first peer's become the run's
        const std::size_t half = w.size() / 2;
        std::vector<Parameter> parameters = {{"a", w.data(), half, pcclFloat},
                                             {"b", w.data() + half, w.size() - half, pcclFloat}};
        std::unique_ptr<Trainer> trainer;
        log.outcome = Trainer::make(config, run.peer(id), parameters, trainer);
        if (log.outcome.ok()) log.outcome = trainer->join();
        std::mt19937_64 random(jitter_seed * 1000 + static_cast<std::uint64_t>(id));
        while (log.outcome.ok() && trainer->status().inner_steps < steps) {
            const std::uint64_t step = trainer->status().inner_steps;
            if (id == 0) {
                reached_ = static_cast<std::int64_t>(step);
                for (const auto &[newcomer, at] : joins_at)
                    if (at == step) run.await_newcomer(newcomer);
            }
            if (jitter_seed != 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
            inner(w, id, step);
            if (before_step) before_step(*trainer, id, step);
            log.outcome = trainer->step(false);
            const auto status = trainer->status();
            log.events |= status.events;
            log.received += (status.events & PCCL_TRAINER_STATE_RECEIVED) != 0 ? 1 : 0;
            if ((status.events & PCCL_TRAINER_OUTER_STEP) != 0 && log.outcome.ok())
                log.outer[status.outer_steps] = outer(*trainer);
        }
        if (log.outcome.ok()) {
            log.outcome = trainer->finish();
            if (log.outcome.ok()) log.outer[trainer->status().outer_steps] = outer(*trainer);
        }
        if (trainer) log.status = trainer->status();
        log.final = w;
        if (id == 0 || run.is_dead(0)) ended_ = true;
        run.leave(id, log.outcome.ok());
    }

    Values outer(const Trainer &trainer) const {
        Values out(elements);
        const std::size_t half = elements / 2;
        EXPECT_TRUE(trainer.outer_parameters(0, out.data()).ok());
        EXPECT_TRUE(trainer.outer_parameters(1, out.data() + half).ok());
        return out;
    }

    std::atomic<std::int64_t> reached_{-1};  ///< the step of peer 0
    std::atomic<bool> ended_{false};
};

/// Expects that all peers that saw an outer step have the same bits after it.
inline void expect_parity(const std::map<int, Log> &logs) {
    std::map<std::uint64_t, std::pair<int, const Values *>> first;
    for (const auto &[id, log] : logs) {
        for (const auto &[step, values] : log.outer) {
            const auto [found, is_new] = first.try_emplace(step, id, &values);
            if (!is_new) {
                EXPECT_EQ(values, *found->second.second)
                    << "peers " << id << " and " << found->second.first << " after outer step " << step;
            }
        }
    }
}

}  // namespace pccl::train
