#include "peer/control.h"

#include <asio/connect.hpp>
#include <asio/write.hpp>

namespace pccl::peer {

namespace {

/// A master that takes nothing for this long a queue is of no use.
constexpr std::size_t kMaxQueued = std::size_t{256} << 20;

}  // namespace

Control::Control(asio::io_context &io, ControlHost &host) : host_(host), resolver_(io), socket_(io), timer_(io) {}

void Control::dial(const HostPort &master, Duration timeout) {
    const std::string where = master.host + ":" + std::to_string(master.port);
    timer_.expires_after(timeout);
    timer_.async_wait([self = shared_from_this(), where, timeout](const asio::error_code &error) {
        if (!error && !self->open_) self->fail("no answer from the master at " + where + " within " + to_string(timeout));
    });
    const auto connected = [self = shared_from_this(), where](const asio::error_code &error, const asio::ip::tcp::endpoint &) {
        if (self->silent_ || error == asio::error::operation_aborted) return;
        if (error) return self->fail("cannot connect to the master at " + where + ": " + error.message() + "; is pccl-master running there?");
        self->timer_.cancel();
        self->open_ = true;
        asio::error_code ignored;
        self->socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
        self->host_.control_up();
        self->read();
    };
    if (const auto ip = parse_ip(master.host)) {  // no resolver thread for a plain address
        asio::ip::tcp::endpoint endpoint;
        endpoint.address(asio::ip::make_address(pccl::to_string(*ip)));
        endpoint.port(master.port);
        socket_.async_connect(endpoint, [connected, endpoint](const asio::error_code &error) { connected(error, endpoint); });
        return;
    }
    resolver_.async_resolve(master.host, std::to_string(master.port), [self = shared_from_this(), where, connected](const asio::error_code &error, auto found) {
        if (self->silent_ || error == asio::error::operation_aborted) return;
        if (error) return self->fail("cannot resolve the master's address " + where + ": " + error.message());
        asio::async_connect(self->socket_, found, connected);
    });
}

void Control::read() {
    socket_.async_read_some(asio::buffer(chunk_), [self = shared_from_this()](const asio::error_code &error, std::size_t bytes) {
        if (self->silent_) return error ? self->close() : self->read();
        if (error) return self->fail(error == asio::error::eof ? "the master closed the connection" : "the connection to the master failed: " + error.message());
        self->frames_.append({self->chunk_.data(), bytes});
        std::span<const std::byte> frame;
        bool whole = false;
        for (;; whole = true) {
            const auto next = self->frames_.next(frame);
            if (next == wire::FrameBuffer::Next::need_more) break;
            wire::ToPeer message;
            if (next == wire::FrameBuffer::Next::bad || !wire::decode(frame, message)) return self->fail("the master sent bytes that are no message");
            self->host_.control_message(std::move(message));
            if (self->closed_) return;
            if (self->silent_) break;
        }
        if (!whole) self->host_.control_heard();
        self->read();
    });
}

void Control::send(const wire::ToMaster &message) {
    if (silent_) return;
    const auto bytes = wire::encode(message);
    queued_.insert(queued_.end(), bytes.begin(), bytes.end());
}

void Control::flush() {
    if (!open_ || queued_.empty() || !sending_.empty()) return;
    if (queued_.size() > kMaxQueued) return fail("the master does not take what it is sent");
    sending_.swap(queued_);
    asio::async_write(socket_, asio::buffer(sending_), [self = shared_from_this()](const asio::error_code &error, std::size_t) {
        self->sending_.clear();
        if (error) {
            if (self->silent_) return self->close();
            return self->fail("the connection to the master failed: " + error.message());
        }
        if (!self->queued_.empty()) return self->flush();
        if (self->silent_) self->finish_sending();
    });
}

void Control::hang_up(std::function<void()> done) {
    if (closed_) {
        if (done) done();
        return;
    }
    if (done) done_ = std::move(done);
    if (silent_) return;
    silent_ = true;
    if (!open_) return close();
    timer_.expires_after(std::chrono::seconds(1));
    timer_.async_wait([self = shared_from_this()](const asio::error_code &error) {
        if (!error) self->close();
    });
    if (queued_.empty() && sending_.empty()) finish_sending();
    else flush();
}

void Control::drop() {
    silent_ = true;
    close();
}

/// What was sent is lost if the socket closes with something unread: say that no more comes, and wait for the other's end.
void Control::finish_sending() {
    asio::error_code ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
}

void Control::close() {
    if (closed_) return;
    closed_ = true;
    open_ = false;
    asio::error_code ignored;
    timer_.cancel();
    resolver_.cancel();
    socket_.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
    if (const auto done = std::exchange(done_, {})) done();
}

void Control::fail(const std::string &why) {
    if (silent_) return;
    silent_ = true;
    close();
    host_.control_down(why);
}

}  // namespace pccl::peer
