// What is done beside a trainer's own thread: an average under way, a question asked ahead.
//
// Guarantee: tasks are carried out one after the other, in the order in which they were begun; whoever has waited for one sees
// all that it did. One thread owns a worker and calls it. (An interface, because a simulation says itself who runs when.)
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

namespace pccl::train {

class Worker {
public:
    using Task = std::function<void()>;

    /// Nothing is pending.
    virtual ~Worker() = default;
    /// Does not block, though the task may.
    virtual void begin(Task task) = 0;
    /// Until the earliest pending task has ended.
    virtual void wait() = 0;
    /// Tasks that were begun and not waited for.
    virtual std::size_t pending() const = 0;
    /// Gives them up, and returns when none of them runs any more. Where that takes longer than `patience`, `abort` is called to
    /// make it end; again and again, since an abort between two attempts of the task's ends nothing.
    virtual void drop(const std::function<void()> &abort, std::chrono::milliseconds patience) = 0;
};

/// One with a thread of its own, from the first task on.
std::unique_ptr<Worker> make_thread();

}  // namespace pccl::train
