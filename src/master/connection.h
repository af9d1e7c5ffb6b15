// One control connection of the master: a socket, the frames that came in and the bytes that wait to go out.
//
// Guarantee: it holds no more input than one frame's limit and no more output than its limit, and only bytes that exist; a
// stranger's limits are small. Runs on the loop's thread.
#pragma once

#include <span>

#include <uv.h>

#include "base/address.h"
#include "base/stream.h"
#include "master/socket.h"
#include "protocol/master.h"
#include "wire/messages.h"

namespace pccl::master {

class Connection;

/// Who is told that a connection can be read or written. `broken`: it is worth one last reading, then it is dead.
class ConnectionOwner {
public:
    virtual void on_ready(Connection &connection, bool broken) = 0;

protected:
    ~ConnectionOwner() = default;
};

class Connection {
public:
    enum class State {
        stranger,    ///< has not introduced itself
        introduced,  ///< is a member or wants to be one
        draining,    ///< what was sent before is leaving; what comes in is thrown away
        closed
    };

    /// nullptr if the loop does not take the socket. Otherwise lives until close() and a little longer.
    static Connection *open(uv_loop_t &loop, ConnectionOwner &owner, protocol::ConnId id, Fd socket, const SocketAddress &from);

    protocol::ConnId id() const { return id_; }
    const SocketAddress &from() const { return from_; }
    State state() const { return state_; }

    /// The stranger is one no longer: a larger limit of input, and this one of output.
    void introduce(std::size_t output_limit);
    /// No more frames; say that nothing follows once the output has left.
    void drain();
    /// Closes the socket now. The object stays valid until the loop's iteration ends.
    void close();

    /// Reads once into `scratch`. `more`: there may be more at once.
    enum class Input { more, none, ended, failed };
    Input read(std::span<std::byte> scratch, int &error);
    /// The next whole frame of what was read; valid until the next call.
    wire::FrameBuffer::Next next_frame(std::span<const std::byte> &frame);
    /// Bytes read that are no whole frame yet.
    std::size_t partial_bytes() const { return buffered_; }
    std::size_t frame_limit() const;

    /// Adds to the output; false (and nothing is added) beyond its limit.
    bool queue(std::span<const std::byte> bytes);
    std::size_t queued() const { return output_.size() - output_begin_; }
    /// Gives the output to the socket as far as it takes it, and watches it for the rest. Output that can never leave is dropped:
    /// reading then tells why.
    void flush();

    bool dirty = false;  ///< in the owner's list of those to flush

private:
    static constexpr std::size_t kStrangerOutput = std::size_t{16} << 10;

    Connection(ConnectionOwner &owner, protocol::ConnId id, Fd socket, const SocketAddress &from)
        : owner_(owner), id_(id), socket_(std::move(socket)), stream_(socket_.get()), from_(from) {}
    void watch(int events);
    void output_left();

    ConnectionOwner &owner_;
    const protocol::ConnId id_;
    Fd socket_;
    Stream stream_;  ///< over `socket_`
    const SocketAddress from_;
    State state_ = State::stranger;
    uv_poll_t poll_{};
    int watched_ = 0;

    wire::FrameBuffer frames_{wire::kMaxHelloBytes};
    std::size_t buffered_ = 0;
    bool large_ = false;  ///< the frame buffer has grown large

    wire::Bytes output_;
    std::size_t output_begin_ = 0;
    std::size_t output_limit_ = kStrangerOutput;
    bool output_broken_ = false;
};

}  // namespace pccl::master
