// What a communicator's handle points to.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>

#include "peer/runtime.h"

struct pcclComm_t {
    explicit pcclComm_t(const pccl::peer::Options &options) : runtime(options) {}

    /// Operations launched and not awaited, by tag in order of launch.
    std::mutex mutex;
    std::map<std::uint64_t, std::deque<pccl::peer::CallPtr>> outstanding;
    pccl::peer::Runtime runtime;
};
