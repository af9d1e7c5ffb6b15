// The listening socket in the event loop. Accepts a limited number of connections at a time, so that many of them do not delay
// the members, and pauses instead of spinning when the system has no file descriptors. Runs on the loop's thread.
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
        std::function<void(Accepted)> on_accepted;
        /// The system is out of descriptors. True: a connection was closed to free one.
        std::function<bool()> on_shortage;
    };

    Listener(Fd socket, Callbacks callbacks) : socket_(std::move(socket)), callbacks_(std::move(callbacks)) {}
    Listener(const Listener &) = delete;
    Listener &operator=(const Listener &) = delete;

    SocketAddress address() const { return local_address(socket_); }

    /// Error: the loop does not accept the socket.
    Status start(uv_loop_t &loop);
    /// The time at which to call resume(); nullopt: not paused.
    std::optional<Time> paused_until() const { return paused_until_; }
    void resume();
    /// Closes the socket. The loop must run one more iteration before this object is destroyed.
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
