#include "runtime.h"

#include <nanobind/stl/string.h>

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <set>
#include <thread>

namespace pccl_python {

namespace {

using Clock = std::chrono::steady_clock;

/// The longest wait for blocked calls at the end of the interpreter.
constexpr std::chrono::seconds kExitLimit{10};

/// Counts forks on the way from the process that imported this.
std::atomic<int> generation{0};

/// running, then leaving (no new calls), then over: nobody may take the GIL any more.
enum class Phase { running, leaving, over };
std::atomic<Phase> phase{Phase::running};

std::set<Resource *> &resources() {
    static auto *all = new std::set<Resource *>;  // outlives everything
    return *all;
}

thread_local BlockingCall *current_call = nullptr;

/// A thread that returns after the interpreter has ended stays here until the process ends.
[[noreturn]] void sleep_for_ever() {
    for (;;)
        pause();
}

void raise_as(const char *type, pcclResult_t result, const char *function, const std::string &why) {
    const nb::object error = nb::module_::import_("pccl._errors").attr(type)(static_cast<int>(result), function, why);
    PyErr_SetObject(error.type().ptr(), error.ptr());
    throw nb::python_error();
}

}  // namespace

void raise(pcclResult_t result, const char *function, const std::string &why) {
    raise_as("PCCLError", result, function, why);
    std::abort();  // raise_as throws
}

void check(pcclResult_t result, const char *function) {
    if (result != pcclSuccess) raise(result, function, pcclGetLastError());
}

void Outcome::check(const char *function, bool also_failures) const {
    if (raised) throw nb::python_error();
    if (result == pcclSuccess) return;
    if (timed_out) raise_as("PCCLTimeoutError", result, function, "the timeout is over: the call was given up, as by abort()");
    if (also_failures) raise(result, function, why);
}

Deadline deadline_after(std::optional<double> timeout) {
    if (!timeout) return {};
    if (!(*timeout >= 0)) throw nb::value_error("timeout is negative");
    constexpr double kForever = 1e9;  // seconds
    if (*timeout > kForever) return {};
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*timeout));
}

void wait_briefly() {
    {
        const nb::gil_scoped_release release;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

// ----------------------------------------------------------------------------------------------------------------- Resource --

Resource::Resource() : generation_(generation), process_(getpid()) {
    if (phase != Phase::running) raise(pcclInvalidUsage, "pccl", "the interpreter is shutting down");
    resources().insert(this);
}

Resource::~Resource() { resources().erase(this); }

bool Resource::is_forked() const { return generation_ != generation; }

void Resource::check_usable(const char *function) const {
    if (is_forked()) {
        raise(pcclInvalidUsage, function,
              std::string("this ") + kind() + " belongs to process " + std::to_string(process_) +
                  ", of which this process is a fork: make another here, or start processes by the 'spawn' method");
    }
    if (phase != Phase::running) raise(pcclInvalidUsage, function, "the interpreter is shutting down");
    if (closed_) raise(pcclInvalidUsage, function, std::string("this ") + kind() + " is closed");
}

void Resource::close() {
    if (is_forked() || state_ == State::released || phase == Phase::over) return;
    closed_ = true;
    if (state_ == State::open && calls_ == 0) return give_back();
    interrupt_calls();
    for (const BlockingCall *call = current_call; call; call = call->outer_) {
        if (&call->resource_ == this) return;  // that call gives it back
    }
    while (state_ != State::released) {
        const nb::gil_scoped_release release;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

/// A thread has come out of a blocking call.
void Resource::leave() {
    if (--calls_ == 0 && closed_ && state_ == State::open) give_back();
}

void Resource::give_back() {
    state_ = State::releasing;
    {
        const nb::gil_scoped_release without;
        release();
    }
    released();
    state_ = State::released;
}

// ------------------------------------------------------------------------------------------------------------------ BlockingCall
// --

BlockingCall::BlockingCall(Resource &resource, Deadline deadline)
    : resource_(resource), deadline_(deadline), outer_(current_call) {
    ++resource_.calls_;
    current_call = this;
    thread_ = PyEval_SaveThread();
    (void)pcclSetWaitHook(&BlockingCall::on_wait, this);
}

BlockingCall::~BlockingCall() {
    current_call = outer_;
    (void)pcclSetWaitHook(outer_ ? &BlockingCall::on_wait : nullptr, outer_);
    if (phase == Phase::over) sleep_for_ever();
    PyEval_RestoreThread(thread_);
    resource_.leave();
}

void BlockingCall::on_wait(void *context) {
    auto &self = *static_cast<BlockingCall *>(context);
    if (self.deadline_ && Clock::now() >= *self.deadline_) self.timed_out_ = true;
    if (!self.raised_ && phase != Phase::over) {
        PyEval_RestoreThread(self.thread_);
        self.raised_ = PyErr_CheckSignals() != 0;
        self.thread_ = PyEval_SaveThread();
    }
    // Again and again until the call has returned: the first time it may not have begun yet.
    if (self.raised_ || self.timed_out_ || self.resource_.closed_) self.resource_.interrupt_calls();
}

// ------------------------------------------------------------------------------------------------------------------ the end --

/// Before the interpreter is gone: ends blocked calls of other threads, and gives everything back, what is built on another thing
/// first.
void end_all() {
    if (phase.exchange(Phase::leaving) != Phase::running) return;
    const auto limit = Clock::now() + kExitLimit;
    for (const std::string kind : {"trainer", "communicator", "master"}) {
        for (;;) {
            Resource *next = nullptr;
            bool waits = false;
            for (Resource *resource : resources()) {
                if (resource->is_forked() || resource->state_ == Resource::State::released || resource->kind() != kind) continue;
                resource->closed_ = true;
                if (resource->calls_ == 0 && resource->state_ == Resource::State::open)
                    next = resource;
                else
                    waits = true, resource->interrupt_calls();
            }
            if (next)
                next->give_back();
            else if (!waits || Clock::now() > limit)
                break;
            else {
                const nb::gil_scoped_release release;
                std::this_thread::sleep_for(std::chrono::milliseconds(5));
            }
        }
    }
    phase = Phase::over;
}

void watch_process() {
    pthread_atfork(nullptr, nullptr, [] { ++generation; });
    nb::module_::import_("atexit").attr("register")(nb::cpp_function(&end_all));
}

}  // namespace pccl_python
