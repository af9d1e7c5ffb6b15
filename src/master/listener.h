// The listening socket in the loop. Takes a few callers at a time, so that a crowd of them does not keep the loop from its
// members, and pauses instead of spinning where the system has no file descriptor left. Runs on the loop's thread.
#pragma once

#include <functional>
#include <optional>

#include <uv.h>

#include "base/time.h"
#include "master/socket.h"

namespace pccl::master {

class Listener {
public:
    struct Callbacks {
        std::function<void(Accepted)> on_caller;
        /// The system is out of descriptors: give one back, if there is one to spare.
        std::function<bool()> on_shortage;
    };

    Listener(Fd socket, Callbacks callbacks) : socket_(std::move(socket)), callbacks_(std::move(callbacks)) {}
    Listener(const Listener &) = delete;
    Listener &operator=(const Listener &) = delete;

    SocketAddress address() const { return local_address(socket_); }

    /// Error: the loop does not take the socket.
    Status start(uv_loop_t &loop);
    /// When to call resume(); nullopt: not paused.
    std::optional<Time> paused_until() const { return paused_until_; }
    void resume();
    /// Closes the socket now; the loop must turn once more before this object may go.
    void close();

private:
    void accept_some();
    void pause(int error);

    Fd socket_;
    Callbacks callbacks_;
    uv_poll_t poll_{};
    bool started_ = false;
    std::optional<Time> paused_until_;
};

}  // namespace pccl::master
