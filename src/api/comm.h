// The object behind a communicator's handle, and how calls on it are awaited.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>

#include "api/state.h"
#include "peer/runtime.h"

struct pcclComm_t {
    explicit pcclComm_t(const pccl::peer::Options &options) : runtime(options) {}

    /// Guards the members up to `runtime`.
    std::mutex mutex;
    /// Operations that were launched and not awaited, by tag, in the order of launch.
    std::map<std::uint64_t, std::deque<pccl::peer::CallPtr>> outstanding;
    /// Messages whose outcome the program has not received yet, by number.
    std::map<std::uint64_t, pccl::peer::PostPtr> posts;
    std::uint64_t last_post = 0;
    pccl::peer::Runtime runtime;
};

namespace pccl::api {

inline pcclComm_t *mutable_of(const pcclComm_t *comm) { return const_cast<pcclComm_t *>(comm); }

/// Waits for a call. Sets this thread's last error if it failed.
inline pcclResult_t await(const peer::CallPtr &call) {
    call->wait();
    return call->code == pcclSuccess ? pcclSuccess : fail(call->code, call->why);
}

}  // namespace pccl::api
