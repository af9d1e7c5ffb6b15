// Initialization, last errors and the functions of the C interface that need no handle.
#include "api/state.h"

#include <atomic>
#include <cstdlib>
#include <string_view>

#include <pccl/pccl.h>

#include "base/assert.h"
#include "base/descriptors.h"

namespace pccl::api {
namespace {

std::atomic<bool> initialized_flag{false};

std::string &last_error() {
    thread_local std::string text;
    return text;
}

}  // namespace

bool initialized() { return initialized_flag.load(std::memory_order_acquire); }

pcclResult_t fail(pcclResult_t code, std::string why) noexcept {
    last_error() = std::move(why);
    return code;
}

pcclResult_t fail_not_initialized() noexcept {
    return guarded([] { return fail(pcclNotInitialized, pcclGetErrorString(pcclNotInitialized)); });
}

}  // namespace pccl::api

using namespace pccl::api;

pcclResult_t pcclInit() {
    if (!initialized()) {
        pccl::reserve_standard_descriptors();
        if (const char *wanted = std::getenv("PCCL_ASSERTIONS"))
            pccl::abort_on_broken_invariants(std::string_view(wanted) == "abort");
    }
    initialized_flag.store(true, std::memory_order_release);
    return succeed();
}

pcclResult_t pcclGetBuildInfo(pcclBuildInfo_t *info) {
    return guarded([&] {
        if (!info) return fail(pcclInvalidArgument, "pcclGetBuildInfo: info is NULL");
#if defined(PCCL_HAS_CUDA)
        info->has_cuda_support = true;
#else
        info->has_cuda_support = false;
#endif
        return succeed();
    });
}

pcclResult_t pcclGetVersion(int *version_out) {
    return guarded([&] {
        if (!version_out) return fail(pcclInvalidArgument, "pcclGetVersion: version_out is NULL");
        *version_out = 10000 * PCCL_VERSION_MAJOR + 100 * PCCL_VERSION_MINOR + PCCL_VERSION_PATCH;
        return succeed();
    });
}

const char *pcclGetErrorString(pcclResult_t result) {
#define PCCL_STATUS_PHRASE(name, value, phrase)                                                                                  \
    case name: return phrase;
    switch (result) {
        PCCL_STATUS_TABLE(PCCL_STATUS_PHRASE)
    case pcclStatusEnd_: break;
    }
#undef PCCL_STATUS_PHRASE
    return "unknown status code";
}

const char *pcclGetLastError() { return last_error().c_str(); }
