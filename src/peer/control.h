// The control connection to the master: finds it, sends and receives whole messages. I/O thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>

#include "base/address.h"
#include "base/time.h"
#include "wire/messages.h"

namespace pccl::peer {

class ControlHost {
public:
    virtual ~ControlHost() = default;
    virtual void control_up() = 0;
    virtual void control_message(wire::ToPeer message) = 0;
    /// Bytes came that are no whole message yet.
    virtual void control_heard() = 0;
    /// Not after hang_up().
    virtual void control_down(const std::string &why) = 0;
};

class Control : public std::enable_shared_from_this<Control> {
public:
    Control(asio::io_context &io, ControlHost &host);

    void dial(const HostPort &master, Duration timeout);
    /// Queues; flush() sends what is queued in one go.
    void send(const wire::ToMaster &message);
    void flush();
    /// Sends what is queued, for a second at most, and closes. `done` is called then.
    void hang_up(std::function<void()> done = {});
    /// Closes at once; no callback comes after it.
    void drop();

private:
    void read();
    void fail(const std::string &why);
    void close();
    void finish_sending();

    ControlHost &host_;
    asio::ip::tcp::resolver resolver_;
    asio::ip::tcp::socket socket_;
    asio::steady_timer timer_;
    bool open_ = false;
    bool closed_ = false;
    bool silent_ = false;  ///< hung up: no more callbacks
    std::function<void()> done_;
    wire::FrameBuffer frames_{wire::kMaxControlBytes};
    std::array<std::byte, 16384> chunk_;
    wire::Bytes queued_, sending_;
};

}  // namespace pccl::peer
