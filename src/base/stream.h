// Bytes over a connected, non-blocking stream socket. The outcome of each call is a value; no call waits.
//
// This is the one place where the lanes of a link, a peer's control connection and the master's connections touch their sockets'
// bytes. Another transport (TLS) goes here. A Stream does not own its socket: the event loop that waits for the socket closes it.
#pragma once

#include <cerrno>
#include <cstddef>
#include <span>

#include <sys/socket.h>
#include <sys/uio.h>

namespace pccl {

/// The outcome of a read or a write.
struct StreamResult {
    enum class State {
        done,         ///< `bytes` were moved, at least one; possibly fewer than were asked for
        would_block,  ///< none can be moved now: wait until the socket is ready
        closed,       ///< read: the other end has sent its last byte
        failed        ///< `error` says why. The connection is of no more use, except after EFAULT
    };
    State state = State::would_block;
    std::size_t bytes = 0;
    int error = 0;  ///< an errno. EFAULT: memory named by the caller is not mapped; other memory can be read or written

    bool done() const { return state == State::done; }
};

class Stream final {
public:
    /// Not connected.
    Stream() = default;
    explicit Stream(int socket) : socket_(socket) {}

    /// Completes a connection that this side has dialled. Returns 0 or an errno: ECONNREFUSED for a socket that is connected to
    /// itself, which happens where nothing listens (see outgoing.h). Such a socket ends at once when it is closed.
    [[nodiscard]] int handshake();

    [[nodiscard]] StreamResult read(std::span<std::byte> into) {
        const iovec part{into.data(), into.size()};
        return readv({&part, 1});
    }
    [[nodiscard]] StreamResult write(std::span<const std::byte> from) {
        const iovec part{const_cast<std::byte *>(from.data()), from.size()};
        return writev({&part, 1});
    }
    /// At most one system call. The parts must not all be empty.
    [[nodiscard]] StreamResult readv(std::span<const iovec> parts) {
        ssize_t got = -1;
        do
            got = ::readv(socket_, parts.data(), static_cast<int>(parts.size()));
        while (got < 0 && errno == EINTR);
        if (got == 0) return {StreamResult::State::closed, 0, 0};
        return outcome(got);
    }
    [[nodiscard]] StreamResult writev(std::span<const iovec> parts) {
        msghdr message{};
        message.msg_iov = const_cast<iovec *>(parts.data());
        message.msg_iovlen = parts.size();
        ssize_t put = -1;
        do
            put = ::sendmsg(socket_, &message, MSG_NOSIGNAL);
        while (put < 0 && errno == EINTR);
        return outcome(put);
    }

    /// No more bytes will be written. The other end reads what was written, then `closed`.
    void end_writing() { ::shutdown(socket_, SHUT_WR); }

private:
    static StreamResult outcome(ssize_t moved) {
        if (moved >= 0) return {StreamResult::State::done, static_cast<std::size_t>(moved), 0};
        const bool blocked = errno == EAGAIN || errno == EWOULDBLOCK;
        return {blocked ? StreamResult::State::would_block : StreamResult::State::failed, 0, blocked ? 0 : errno};
    }

    int socket_ = -1;
};

}  // namespace pccl
