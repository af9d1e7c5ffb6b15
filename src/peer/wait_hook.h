// The function that a thread calls regularly while it waits for a call: see pcclSetWaitHook. Each thread has its own.
#pragma once

#include <chrono>

namespace pccl::peer {

struct WaitHook {
    void (*function)(void *context) = nullptr;
    void *context = nullptr;
};

/// Interval between calls of the hook, short enough that Ctrl-C seems to act at once.
constexpr std::chrono::milliseconds kWaitHookInterval{50};

inline WaitHook &wait_hook() {
    thread_local WaitHook hook;
    return hook;
}

}  // namespace pccl::peer
