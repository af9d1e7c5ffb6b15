// The control connection to the master: resolves its name, connects, and sends and receives messages. I/O thread only.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>

#include "base/address.h"
#include "base/lookup.h"
#include "base/stream.h"
#include "base/time.h"
#include "wire/messages.h"

namespace pccl::peer {

class ControlHost {
public:
    virtual ~ControlHost() = default;
    virtual void control_up() = 0;
    virtual void control_message(wire::ToPeer message) = 0;
    /// Bytes arrived that do not complete a message yet.
    virtual void control_heard() = 0;
    /// The connection failed, or could not be made. Not called after hang_up().
    virtual void control_down(const std::string &why) = 0;
};

class Control : public std::enable_shared_from_this<Control> {
public:
    Control(asio::io_context &io, ControlHost &host);

    /// Resolves the master's name and connects within `timeout`. The addresses of a name are tried in turn; each gets an equal
    /// part of the time that remains.
    void dial(const HostPort &master, Duration timeout);
    /// While connected: the interface through which the master is reached. It serves as the zone of other hosts' link-local
    /// addresses. 0: unknown.
    std::uint32_t zone() const;
    /// Queues a message. flush() sends the queue.
    void send(const wire::ToMaster &message);
    void flush();
    /// Sends the queue, for at most a second, closes the connection, and calls `done`.
    void hang_up(std::function<void()> done = {});
    /// Closes at once. There are no callbacks after this.
    void drop();

private:
    void find(const std::string &host);
    void dial_next(const std::string &last);
    void dialled(const SocketAddress &target, const asio::error_code &error);
    void wait_readable();
    void read_some();
    bool take_messages();
    void write_some();
    void fail(const std::string &why);
    void close();
    void finish_sending();

    ControlHost &host_;
    std::string where_;  ///< the master's address, for error texts
    std::optional<Lookup> lookup_;
    std::deque<SocketAddress> targets_;  ///< addresses that are not tried yet
    asio::ip::tcp::socket socket_;
    Stream stream_;  ///< over `socket_`, once it is connected
    asio::steady_timer timer_, turn_;
    std::uint64_t attempt_ = 0;  ///< number of the attempt to connect; timers of earlier ones are ignored
    bool open_ = false;
    bool closed_ = false;
    bool silent_ = false;  ///< hang_up(), drop() or a failure: no more callbacks
    std::function<void()> done_;
    wire::FrameBuffer frames_{wire::kMaxControlBytes};
    std::array<std::byte, 16384> chunk_;
    wire::Bytes queued_;    ///< waits for flush()
    wire::Bytes sending_;   ///< is being written
    std::size_t sent_ = 0;  ///< bytes of `sending_`
};

}  // namespace pccl::peer
