// What a communicator's handle points to, and how calls on it are awaited.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>

#include "api/state.h"
#include "peer/runtime.h"

struct pcclComm_t {
    explicit pcclComm_t(const pccl::peer::Options &options) : runtime(options) {}

    /// Operations launched and not awaited, by tag in order of launch.
    std::mutex mutex;
    std::map<std::uint64_t, std::deque<pccl::peer::CallPtr>> outstanding;
    /// Messages whose outcome has not been told, by number.
    std::map<std::uint64_t, pccl::peer::PostPtr> posts;
    std::uint64_t last_post = 0;
    pccl::peer::Runtime runtime;
};

namespace pccl::api {

inline pcclComm_t *mutable_of(const pcclComm_t *comm) { return const_cast<pcclComm_t *>(comm); }

/// Waits for a call and turns its end into this thread's.
inline pcclResult_t await(const peer::CallPtr &call) {
    call->wait();
    return call->code == pcclSuccess ? pcclSuccess : fail(call->code, call->why);
}

}  // namespace pccl::api
