// A worker carries out tasks while the trainer's thread does something else, for example an average or a question to the master.
//
// Guarantee: tasks are carried out one after the other, in the order in which they were begun. A caller that has waited for a
// task sees all its effects. One thread owns a worker and calls it. It is an interface because a simulation schedules tasks
// itself.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

namespace pccl::train {

class Worker {
public:
    using Task = std::function<void()>;

    /// No task may be pending.
    virtual ~Worker() = default;
    /// Does not block, though the task may.
    virtual void begin(Task task) = 0;
    /// Blocks until the earliest pending task has ended.
    virtual void wait() = 0;
    /// Tasks that were begun and not waited for.
    virtual std::size_t pending() const = 0;
    /// Drops the pending tasks, and returns when none of them runs. If the running task takes longer than `patience`, `abort` is
    /// called repeatedly to end it, because an abort between two attempts of the task has no effect.
    virtual void drop(const std::function<void()> &abort, std::chrono::milliseconds patience) = 0;
};

/// A worker that starts its own thread with the first task.
std::unique_ptr<Worker> make_thread();

}  // namespace pccl::train
