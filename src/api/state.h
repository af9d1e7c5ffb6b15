// State that all functions of the C interface share: whether the library is initialized, and the text of each thread's last
// failure.
//
// Guarantee: no exception crosses the C boundary. Any thread.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

#include <pccl/status.h>

#include "base/no_memory.h"
#include "base/result.h"

namespace pccl::api {

/// Returns whether pcclInit has been called.
bool initialized();

/// Sets this thread's last error and returns `code`. The text is kept until the thread's next failure.
pcclResult_t fail(pcclResult_t code, std::string why) noexcept;
inline pcclResult_t fail(Error error) noexcept { return fail(error.code, std::move(error.what)); }
/// fail() for a call made before pcclInit.
pcclResult_t fail_not_initialized() noexcept;

inline pcclResult_t succeed() { return pcclSuccess; }

/// Runs the body of a C function, which returns a pcclResult_t. An exception becomes pcclInternalError.
template <class F> pcclResult_t guarded(F &&body) noexcept {
    try {
        return std::forward<F>(body)();
    } catch (const std::bad_alloc &error) {
        try {
            return fail(pcclInternalError, words_of(error));
        } catch (...) {
            return fail(pcclInternalError, "out of memory");  // short enough to need no allocation
        }
    } catch (const std::exception &error) {
        try {
            return fail(pcclInternalError, error.what());
        } catch (...) {
            return fail(pcclInternalError, "out of memory");
        }
    } catch (...) {
        return fail(pcclInternalError, "unknown error");
    }
}

/// As guarded(), for calls on a communicator, which need pcclInit. Calls on a master and calls without a handle do not need it.
template <class F> pcclResult_t guarded_initialized(F &&body) noexcept {
    if (!initialized()) return fail_not_initialized();
    return guarded(std::forward<F>(body));
}

}  // namespace pccl::api
