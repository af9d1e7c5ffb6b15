// Tasks of a worker: their order, and how they are dropped.
#include "train/worker.h"

#include <atomic>
#include <vector>

#include <gtest/gtest.h>

namespace pccl::train {
namespace {

TEST(Worker, RunsTasksInOrderAndShowsTheirEffectsToWaiters) {
    const auto worker = make_thread();
    std::vector<int> done;
    for (int task = 0; task < 3; ++task)
        worker->begin([&done, task] { done.push_back(task); });
    EXPECT_EQ(worker->pending(), 3U);
    for (int task = 0; task < 3; ++task)
        worker->wait();
    EXPECT_EQ(done, (std::vector<int>{0, 1, 2}));
    EXPECT_EQ(worker->pending(), 0U);
}

TEST(Worker, DropAbortsTheRunningTaskAndStartsNoOther) {
    const auto worker = make_thread();
    std::atomic<int> aborts{0};
    std::atomic<bool> running{false}, started{false};
    worker->begin([&] {
        running = true;
        running.notify_all();
        for (int seen = aborts; seen < 2; seen = aborts)
            aborts.wait(seen);
    });
    worker->begin([&] { started = true; });
    running.wait(false);
    worker->drop(
        [&] {
            ++aborts;
            aborts.notify_all();
        },
        std::chrono::milliseconds(0));
    EXPECT_GE(aborts, 2);
    EXPECT_EQ(worker->pending(), 0U);
    worker->begin([] {});  // the worker can be used again
    worker->wait();
    EXPECT_FALSE(started);
}

}  // namespace
}  // namespace pccl::train
