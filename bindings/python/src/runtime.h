// The Python side of every call into the library: the GIL, signals, deadlines, forks, and the end of the interpreter.
//
// The GIL guards all state here and in the classes that use it, except atomic members. A blocking call releases the
// GIL; twenty times a second the library asks this thread's wait hook, which runs Python's signal handlers and looks at the
// deadline. If a handler raises (KeyboardInterrupt) or the time is over, the call is aborted.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include <pccl/pccl.h>

namespace pccl_python {

namespace nb = nanobind;

/// Raises pccl.PCCLError.
[[noreturn]] void raise(pcclResult_t result, const char *function, const std::string &why);
/// Raises with pcclGetLastError() as the reason, unless `result` is pcclSuccess.
void check(pcclResult_t result, const char *function);

/// Adds handlers for the end of the interpreter and for forks. Once, at import.
void watch_process();

/// Something of the library that lives until it is closed, its last reference is dropped, or the interpreter ends.
class Resource {
public:
    Resource();
    virtual ~Resource();
    Resource(const Resource &) = delete;
    Resource &operator=(const Resource &) = delete;

    /// Not in the process that made it, but in a fork of that: threads and connections are the other's.
    bool is_forked() const;
    /// Raises unless it can be called: closed, forked, or too late.
    void check_usable(const char *function) const;
    bool closed() const { return closed_; }
    /// Ends blocked calls, and gives the handle back to the library once none is left: before this returns, unless it is called
    /// from within a blocked call (from a signal handler). Twice does nothing.
    void close();

protected:
    virtual const char *kind() const = 0;
    /// Makes blocked calls return soon. Any thread, no GIL.
    virtual void interrupt_calls() {}
    /// Gives the handle back. No call is in it. Without the GIL.
    virtual void release() = 0;
    /// After that, with the GIL.
    virtual void released() {}

private:
    friend class BlockingCall;
    friend void end_all();
    enum class State { open, releasing, released };

    void leave();
    void give_back();

    const int generation_;
    const int process_;
    std::atomic<bool> closed_{false};
    State state_ = State::open;
    int calls_ = 0;  ///< threads in blocking calls
};

using Deadline = std::optional<std::chrono::steady_clock::time_point>;
/// From seconds; none for None. Raises ValueError for negative ones.
Deadline deadline_after(std::optional<double> timeout);

/// Lets other threads run for a moment: between two looks at what one of them does. Raises what a signal handler raises.
void wait_briefly();

/// How a blocking call ended, with the GIL again.
struct Outcome {
    pcclResult_t result = pcclSuccess;
    std::string why;
    bool raised = false;  ///< a signal handler raised; Python's error indicator is set
    bool timed_out = false;

    /// Raises what there is to raise. `result` may be left to the caller by `also_failures` false.
    void check(const char *function, bool also_failures = true) const;
};

/// A blocking call's stay in the library: made with the GIL, without it while it lives. Its thread's wait hook asks it.
class BlockingCall {
public:
    BlockingCall(Resource &resource, Deadline deadline);
    ~BlockingCall();
    BlockingCall(const BlockingCall &) = delete;
    BlockingCall &operator=(const BlockingCall &) = delete;

    bool raised() const { return raised_; }
    bool timed_out() const { return timed_out_; }

private:
    friend class Resource;
    static void on_wait(void *self);

    Resource &resource_;
    const Deadline deadline_;
    BlockingCall *const outer_;  ///< a signal handler makes calls within a call
    PyThreadState *thread_ = nullptr;
    bool raised_ = false, timed_out_ = false;
};

/// Makes a call that may block.
template <class F> Outcome blocking(Resource &resource, const char *function, Deadline deadline, F &&call) {
    resource.check_usable(function);
    Outcome outcome;
    {
        BlockingCall blocking_call(resource, deadline);
        outcome.result = std::forward<F>(call)();
        if (outcome.result != pcclSuccess) outcome.why = pcclGetLastError();
        outcome.raised = blocking_call.raised();
        outcome.timed_out = blocking_call.timed_out();
    }
    return outcome;
}

}  // namespace pccl_python
