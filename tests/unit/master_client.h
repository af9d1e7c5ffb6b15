// A peer reduced to its socket: sends bytes, and reads what a master sends.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <thread>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "master/server.h"
#include "wire/messages.h"

namespace pccl::master::test {

using std::chrono::milliseconds;
constexpr milliseconds kPatience{20000};  ///< limit of a wait that should end sooner; large because machines can be loaded

class Client {
public:
    explicit Client(const SocketAddress &to, int receive_buffer = 0) {
        fd_ = ::socket(to.ip.v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        sockaddr_in v4{};
        sockaddr_in6 v6{};
        v4.sin_family = AF_INET;
        v6.sin6_family = AF_INET6;
        v4.sin_port = v6.sin6_port = htons(to.port);
        std::memcpy(&v4.sin_addr, to.ip.octets.data(), sizeof v4.sin_addr);
        std::memcpy(&v6.sin6_addr, to.ip.octets.data(), sizeof v6.sin6_addr);
        const auto *native = to.ip.v6 ? reinterpret_cast<const sockaddr *>(&v6) : reinterpret_cast<const sockaddr *>(&v4);
        if (::connect(fd_, native, to.ip.v6 ? sizeof v6 : sizeof v4) != 0) fail();
    }
    Client(Client &&other) noexcept : fd_(other.fd_), frames_(std::move(other.frames_)) { other.fd_ = -1; }
    ~Client() {
        if (fd_ >= 0) ::close(fd_);
    }

    int fd() const { return fd_; }

    /// False if the connection is gone.
    bool send(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            bytes = bytes.subspan(static_cast<std::size_t>(sent));
        }
        return true;
    }
    bool send(const wire::ToMaster &message) { return send(wire::encode(message)); }
    bool hello(std::uint32_t group = 0) {
        wire::Hello hello;
        hello.group = GroupId{group};
        hello.advertised.port = 4000;
        return send(wire::ToMaster(hello));
    }

    /// The next message, or nullopt if the connection ended or no message arrived in time (see ended()).
    std::optional<wire::ToPeer> receive(milliseconds limit = kPatience) {
        const auto end = std::chrono::steady_clock::now() + limit;
        std::array<std::byte, 65536> buffer;
        for (;;) {
            std::span<const std::byte> frame;
            wire::ToPeer message;
            const auto next = frames_.next(frame);
            if (next == wire::FrameBuffer::Next::frame) {
                if (!wire::decode(frame, message)) throw std::runtime_error("the master sent no message");
                return message;
            }
            if (next == wire::FrameBuffer::Next::bad) throw std::runtime_error("the master sent a bad frame");
            const auto left = std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
            pollfd wait{fd_, POLLIN, 0};
            if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) <= 0) return std::nullopt;
            const ssize_t got = ::recv(fd_, buffer.data(), buffer.size(), 0);
            ended_ = got <= 0;
            if (ended_) return std::nullopt;
            frames_.append(std::span(buffer).first(static_cast<std::size_t>(got)));
        }
    }
    bool ended() const { return ended_; }

    /// The next message of type M. Other messages are ignored.
    template <class M> std::optional<M> await(milliseconds limit = kPatience) {
        const auto end = std::chrono::steady_clock::now() + limit;
        for (;;) {
            const auto left = std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
            auto message = receive(left);
            if (!message) return std::nullopt;
            if (auto *found = std::get_if<M>(&*message)) return std::move(*found);
        }
    }

    /// Whether the master ends the connection within the limit.
    bool await_end(milliseconds limit = kPatience) {
        const auto end = std::chrono::steady_clock::now() + limit;
        for (;;) {
            const auto left = std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
            if (!receive(left)) return ended_;
        }
    }

private:
    [[noreturn]] void fail() {
        const std::string why = std::strerror(errno);
        ::close(fd_);
        throw std::runtime_error("connect: " + why);
    }

    int fd_ = -1;
    bool ended_ = false;
    wire::FrameBuffer frames_{wire::kMaxControlBytes};
};

inline SocketAddress loopback(bool v6 = false, std::uint16_t port = 0) { return {*parse_ip(v6 ? "::1" : "127.0.0.1"), port}; }

/// A server with its thread.
class Running {
public:
    explicit Running(const ServerOptions &options) {
        auto created = Server::create(options);
        if (!created) throw std::runtime_error(created.error().what);
        server = std::move(*created);
        thread_ = std::thread([this] { server->run(); });
    }
    ~Running() { stop(); }
    void stop() {
        server->interrupt();
        if (thread_.joinable()) thread_.join();
    }
    SocketAddress address() const { return server->address(); }

    std::unique_ptr<Server> server;

private:
    std::thread thread_;
};

inline ServerOptions on_loopback(bool v6 = false) {
    ServerOptions options;
    options.listen = loopback(v6);
    return options;
}

}  // namespace pccl::master::test
