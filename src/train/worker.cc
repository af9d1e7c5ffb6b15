// See train/worker.h.
#include "train/worker.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include <pccl/extend.h>

#include "base/float_mode.h"

namespace pccl::train {
namespace {

constexpr auto kHookInterval = std::chrono::milliseconds(50);
constexpr auto kRepeat = std::chrono::milliseconds(10);

class ThreadWorker final : public Worker {
public:
    ~ThreadWorker() override {
        if (!thread_.joinable()) return;
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
            wake_.notify_one();
        }
        thread_.join();
    }

    void begin(Task task) override {
        if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
        ++pending_;
        const std::lock_guard lock(mutex_);
        todo_.push_back(std::move(task));
        wake_.notify_one();
    }

    void wait() override {
        std::unique_lock lock(mutex_);
        while (!ended_one_.wait_for(lock, kHookInterval, [this] { return ended_ != 0; })) {
            lock.unlock();
            pcclPollWaitHook();
            lock.lock();
        }
        --ended_;
        --pending_;
    }

    std::size_t pending() const override { return pending_; }

    void drop(const std::function<void()> &abort, std::chrono::milliseconds patience) override {
        std::unique_lock lock(mutex_);
        todo_.clear();
        for (auto time = patience; !ended_one_.wait_for(lock, time, [this] { return !running_; }); time = kRepeat) {
            lock.unlock();
            abort();
            lock.lock();
        }
        ended_ = pending_ = 0;
    }

private:
    void work() {
        const FloatMode mode;  // the thread has inherited the mode of its creator
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return stop_ || !todo_.empty(); });
            if (stop_) return;
            const Task task = std::move(todo_.front());
            todo_.pop_front();
            running_ = true;
            lock.unlock();
            task();
            lock.lock();
            running_ = false;
            ++ended_;
            ended_one_.notify_all();
        }
    }

    std::size_t pending_ = 0;  ///< used by the owner only

    std::mutex mutex_;
    std::condition_variable wake_, ended_one_;
    std::deque<Task> todo_;
    std::size_t ended_ = 0;  ///< ended tasks that were not waited for
    bool running_ = false, stop_ = false;
    std::thread thread_;
};

}  // namespace

std::unique_ptr<Worker> make_thread() { return std::make_unique<ThreadWorker>(); }

}  // namespace pccl::train
