// One control connection of the master: a socket, the frames that it received and the bytes that wait to be sent.
//
// Guarantee: it holds at most one frame's limit of input and its limit of output, and allocates only for bytes that exist. Before
// Hello the limits are small. Runs on the loop's thread.
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

/// Is called when a connection can be read or written. `broken`: the connection has failed, and can be read to its end only.
class ConnectionOwner {
public:
    virtual void on_ready(Connection &connection, bool broken) = 0;

protected:
    ~ConnectionOwner() = default;
};

class Connection {
public:
    enum class State {
        before_hello,  ///< has not sent a valid Hello
        welcomed,      ///< is a member or a newcomer
        draining,      ///< its remaining output is sent; its input is discarded
        closed
    };

    /// nullptr: the loop does not accept the socket. Otherwise the object exists until close() and the end of the loop's
    /// iteration.
    static Connection *open(uv_loop_t &loop, ConnectionOwner &owner, protocol::ConnId id, Fd socket, const SocketAddress &from);

    protocol::ConnId id() const { return id_; }
    const SocketAddress &from() const { return from_; }
    State state() const { return state_; }

    /// A valid Hello has arrived: raises the limit of input, and sets the limit of output.
    void welcome(std::size_t output_limit);
    /// Receives no more frames, and ends the sending side once the output is sent.
    void drain();
    /// Closes the socket. The object remains valid until the loop's iteration ends.
    void close();

    /// Reads once into `scratch`. `more`: the socket may have more bytes.
    enum class Input { more, none, ended, failed };
    Input read(std::span<std::byte> scratch, int &error);
    /// The next complete frame of the input; valid until the next call.
    wire::FrameBuffer::Next next_frame(std::span<const std::byte> &frame);
    /// Bytes that were read and do not complete a frame yet.
    std::size_t partial_bytes() const { return buffered_; }
    std::size_t frame_limit() const;

    /// Adds to the output. False: the limit would be exceeded, and nothing was added.
    bool queue(std::span<const std::byte> bytes);
    std::size_t queued() const { return output_.size() - output_begin_; }
    /// Writes the output until the socket is full, and continues when it has room. If the socket has failed, the output is
    /// discarded, and read() returns the error.
    void flush();

    bool dirty = false;  ///< in the owner's list of connections to flush

private:
    static constexpr std::size_t kOutputBeforeHello = std::size_t{16} << 10;

    Connection(ConnectionOwner &owner, protocol::ConnId id, Fd socket, const SocketAddress &from)
        : owner_(owner), id_(id), socket_(std::move(socket)), stream_(socket_.get()), from_(from) {}
    void watch(int events);
    void end_output();

    ConnectionOwner &owner_;
    const protocol::ConnId id_;
    Fd socket_;
    Stream stream_;  ///< over `socket_`
    const SocketAddress from_;
    State state_ = State::before_hello;
    uv_poll_t poll_{};
    int watched_ = 0;

    wire::FrameBuffer frames_{wire::kMaxHelloBytes};
    std::size_t buffered_ = 0;
    bool large_ = false;  ///< the frame buffer has grown beyond kKeptBuffer

    wire::Bytes output_;
    std::size_t output_begin_ = 0;
    std::size_t output_limit_ = kOutputBeforeHello;
    bool output_broken_ = false;
};

}  // namespace pccl::master
