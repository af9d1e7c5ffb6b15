// Threads of the library, which take no signal: signals belong to the program's threads. Any thread.
#pragma once

#include <csignal>
#include <thread>
#include <utility>

#include <pthread.h>

namespace pccl {

/// Starts `body` on a thread that has all signals blocked from its first instruction on. Throws std::system_error if the system
/// gives no thread; the caller's signal mask is restored in any case.
template <class Body> std::thread start_without_signals(Body body) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct Restore {
        const sigset_t &mask;
        ~Restore() { pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
    } const restore{before};
    return std::thread(std::move(body));
}

}  // namespace pccl
