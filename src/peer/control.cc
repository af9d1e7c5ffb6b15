#include "peer/control.h"

#include <cerrno>
#include <cstring>

#include <asio/post.hpp>
#include <asio/write.hpp>

#include "base/descriptors.h"
#include "base/interfaces.h"
#include "base/outgoing.h"
#include "peer/endpoint.h"

namespace pccl::peer {

namespace {

/// A master that takes nothing for this long a queue is of no use.
constexpr std::size_t kMaxQueued = std::size_t{256} << 20;

}  // namespace

Control::Control(asio::io_context &io, ControlHost &host) : host_(host), socket_(io), timer_(io), turn_(io) {}

void Control::dial(const HostPort &master, Duration timeout) {
    where_ =
        (master.host.find(':') == std::string::npos ? master.host : '[' + master.host + ']') + ":" + std::to_string(master.port);
    timer_.expires_after(timeout);
    timer_.async_wait([self = shared_from_this(), timeout](const asio::error_code &error) {
        if (error || self->open_) return;
        if (self->lookup_)
            return self->fail("cannot resolve the master's address " + self->where_ + ": no answer from the name server within " +
                              to_string(timeout));
        self->fail("no answer from the master at " + self->where_ + " within " + to_string(timeout));
    });
    targets_ = {SocketAddress{{}, master.port}};
    if (const auto ip = parse_ip(master.host)) {  // no look-up for a plain address
        targets_.front().ip = *ip;
        return dial_next("");
    }
    find(master.host);
}

/// The result comes from another thread, which only posts it here.
void Control::find(const std::string &host) {
    lookup_.emplace(host, [self = shared_from_this()](const Result<Lookup::Addresses> &result) {
        asio::post(self->socket_.get_executor(), [self, result] {
            if (self->silent_) return;
            self->lookup_.reset();
            if (!result) return self->fail("cannot resolve the master's address " + self->where_ + ": " + result.error().what);
            const std::uint16_t port = self->targets_.front().port;
            self->targets_.clear();
            for (const IpAddress &ip : *result)
                self->targets_.push_back({ip, port});
            self->dial_next("");
        });
    });
}

void Control::dial_next(const std::string &last) {
    if (targets_.empty())
        return fail("cannot connect to the master at " + where_ + ": " + last + "; is pccl-master running there?");
    const SocketAddress target = targets_.front();
    targets_.pop_front();
    Fd fd = open_stream(target.ip.v6);
    if (!fd) return dial_next(std::strerror(errno));
    keep_off_target_port(fd, target);
    const auto endpoint = to_endpoint(target);
    asio::error_code error;
    socket_.assign(endpoint.protocol(), fd.get(), error);
    if (error) return dial_next(error.message());
    fd.release();
    ++attempt_;
    if (!targets_.empty()) {
        turn_.expires_after((timer_.expiry() - std::chrono::steady_clock::now()) / (targets_.size() + 1));
        turn_.async_wait([self = shared_from_this(), attempt = attempt_](const asio::error_code &cancelled) {
            if (cancelled || self->open_ || self->silent_ || attempt != self->attempt_) return;
            asio::error_code ignored;
            self->socket_.close(ignored);  // which ends the attempt
        });
    }
    socket_.async_connect(endpoint,
                          [self = shared_from_this(), target](const asio::error_code &failed) { self->dialled(target, failed); });
}

void Control::dialled(const SocketAddress &target, const asio::error_code &error) {
    if (silent_) return;
    turn_.cancel();
    asio::error_code ignored;
    if (error) {
        socket_.close(ignored);
        return dial_next(error == asio::error::operation_aborted ? "no answer from " + to_string(target) : error.message());
    }
    if (is_connected_to_itself(socket_.native_handle())) {  // nothing listens there, and the port must stay free for the master
        reset_on_close(socket_.native_handle());
        socket_.close(ignored);
        return dial_next(asio::error_code(asio::error::connection_refused).message());
    }
    timer_.cancel();
    open_ = true;
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    host_.control_up();
    read();
}

std::uint32_t Control::zone() const {
    asio::error_code error;
    const auto local = socket_.local_endpoint(error);
    if (error) return 0;
    const bool has_zone = local.address().is_v6() && local.address().to_v6().scope_id() != 0;
    return zone_of_interface(has_zone ? static_cast<std::uint32_t>(local.address().to_v6().scope_id())
                                      : interface_of(to_ip(local.address())));
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
    turn_.cancel();
    lookup_.reset();
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
