// Coroutines for modelled application threads: a program reads like the training loop that it models.
//
// A Task starts when it is awaited or joined with others. Destroying it destroys everything that it was doing, as a crash does.
#pragma once

#include <coroutine>
#include <exception>
#include <utility>
#include <vector>

namespace pccl::sim {

class Task {
public:
    /// State that the tasks of one AllOf share.
    struct Join {
        std::size_t left = 0;
        std::coroutine_handle<> waiter;
    };

    struct promise_type {
        std::coroutine_handle<> continuation;
        Join *join = nullptr;

        Task get_return_object() { return Task(Handle::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        auto final_suspend() noexcept {
            struct Final {
                bool await_ready() noexcept { return false; }
                std::coroutine_handle<> await_suspend(Handle done) noexcept {
                    auto &promise = done.promise();
                    if (promise.join && --promise.join->left == 0) return promise.join->waiter;
                    return promise.continuation ? promise.continuation : std::noop_coroutine();
                }
                void await_resume() noexcept {}
            };
            return Final{};
        }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
    using Handle = std::coroutine_handle<promise_type>;

    Task() = default;
    Task(Task &&other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Task &operator=(Task &&other) noexcept {
        if (this != &other) {
            if (handle_) handle_.destroy();
            handle_ = std::exchange(other.handle_, {});
        }
        return *this;
    }
    ~Task() {
        if (handle_) handle_.destroy();
    }

    void start() { handle_.resume(); }
    bool done() const { return !handle_ || handle_.done(); }

    auto operator co_await() &noexcept {
        struct Awaiter {
            Handle handle;
            bool await_ready() noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiter) noexcept {
                handle.promise().continuation = waiter;
                return handle;
            }
            void await_resume() noexcept {}
        };
        return Awaiter{handle_};
    }

private:
    friend class AllOf;
    explicit Task(Handle handle) : handle_(handle) {}

    Handle handle_;
};

/// `co_await AllOf(tasks)` runs the tasks at the same time and returns when all are done. `tasks` must outlive it.
class AllOf {
public:
    explicit AllOf(std::vector<Task> &tasks) : tasks_(tasks) {}
    bool await_ready() noexcept { return tasks_.empty(); }
    void await_suspend(std::coroutine_handle<> waiter) {
        join_ = {tasks_.size() + 1, waiter};
        for (auto &task : tasks_) {
            task.handle_.promise().join = &join_;
            task.handle_.resume();
        }
        --join_.left;  // no task ends before this, because each waits for an event first
    }
    void await_resume() noexcept {}

private:
    std::vector<Task> &tasks_;
    Task::Join join_;
};

}  // namespace pccl::sim
