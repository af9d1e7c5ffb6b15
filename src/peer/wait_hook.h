// What a thread does from time to time while it waits for a call: see pcclSetWaitHook. Of the calling thread alone.
#pragma once

#include <chrono>

namespace pccl::peer {

struct WaitHook {
    void (*function)(void *context) = nullptr;
    void *context = nullptr;
};

/// So often; Ctrl-C should feel like at once.
constexpr std::chrono::milliseconds kWaitHookInterval{50};

inline WaitHook &wait_hook() {
    thread_local WaitHook hook;
    return hook;
}

}  // namespace pccl::peer
