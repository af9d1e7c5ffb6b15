// What all functions of the C interface share: whether the library is initialized, and the words of a thread's last failure.
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

/// pcclInit has been called.
bool initialized();

/// Sets this thread's last error and returns `code`. The words stay until the thread's next failure.
pcclResult_t fail(pcclResult_t code, std::string why) noexcept;
inline pcclResult_t fail(Error error) noexcept { return fail(error.code, std::move(error.what)); }
/// fail() for a call made before pcclInit.
pcclResult_t fail_not_initialized() noexcept;

inline pcclResult_t succeed() { return pcclSuccess; }

/// Runs the body of a C function, which returns a pcclResult_t; what it throws becomes pcclInternalError.
template <class F> pcclResult_t guarded(F &&body) noexcept {
    try {
        return std::forward<F>(body)();
    } catch (const std::bad_alloc &error) {
        try {
            return fail(pcclInternalError, words_of(error));
        } catch (...) {
            return fail(pcclInternalError, "out of memory");  // short enough to need none
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

/// guarded(), for calls that need pcclInit: all of a communicator. Those of a master and those without a handle do not.
template <class F> pcclResult_t guarded_initialized(F &&body) noexcept {
    if (!initialized()) return fail_not_initialized();
    return guarded(std::forward<F>(body));
}

}  // namespace pccl::api
