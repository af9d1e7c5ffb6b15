// See control.h.
#include "peer/control.h"

#include <cerrno>
#include <cstring>

#include <asio/post.hpp>

#include "base/descriptors.h"
#include "base/interfaces.h"
#include "base/outgoing.h"
#include "peer/endpoint.h"

namespace pccl::peer {

namespace {

/// Bytes that may wait for a master that does not read. Beyond it the connection is given up.
constexpr std::size_t kMaxQueued = std::size_t{256} << 20;
/// Reads before other handlers of the event loop run.
constexpr int kReadsAtOnce = 4;

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
                              to_string(timeout) + ". Check the name, or give an IP address");
        self->fail("no answer from the master at " + self->where_ + " within " + to_string(timeout));
    });
    targets_ = {SocketAddress{{}, master.port}};
    if (const auto ip = parse_ip(master.host)) {
        targets_.front().ip = *ip;
        return dial_next("");
    }
    find(master.host);
}

/// The resolver calls back on its own thread, so the result is posted to this one.
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
    stream_ = Stream(socket_.native_handle());
    if (const int failed = stream_.handshake(); failed != 0) {
        socket_.close(ignored);
        return dial_next(std::strerror(failed));
    }
    timer_.cancel();
    open_ = true;
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    host_.control_up();
    if (!closed_) wait_readable();
}

std::uint32_t Control::zone() const {
    asio::error_code error;
    const auto local = socket_.local_endpoint(error);
    if (error) return 0;
    const bool has_zone = local.address().is_v6() && local.address().to_v6().scope_id() != 0;
    return zone_of_interface(has_zone ? static_cast<std::uint32_t>(local.address().to_v6().scope_id())
                                      : interface_of(to_ip(local.address())));
}

void Control::wait_readable() {
    socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](const asio::error_code &error) {
        if (!self->closed_ && error != asio::error::operation_aborted) self->read_some();
    });
}

void Control::read_some() {
    for (int i = 0; i < kReadsAtOnce; ++i) {
        const StreamResult result = stream_.read(chunk_);
        if (result.state == StreamResult::State::would_block) return wait_readable();
        if (silent_) {
            if (!result.done()) return close();
            continue;
        }
        if (result.state == StreamResult::State::closed) return fail("the master closed the connection");
        if (!result.done()) return fail("the connection to the master failed: " + std::string(std::strerror(result.error)));
        frames_.append({chunk_.data(), result.bytes});
        if (!take_messages()) return;
    }
    asio::post(socket_.get_executor(), [self = shared_from_this()] {
        if (!self->closed_) self->read_some();
    });
}

/// Passes on the messages that are complete. False: the connection is closed.
bool Control::take_messages() {
    std::span<const std::byte> frame;
    bool whole = false;
    for (;; whole = true) {
        const auto next = frames_.next(frame);
        if (next == wire::FrameBuffer::Next::need_more) break;
        wire::ToPeer message;
        if (next == wire::FrameBuffer::Next::bad || !wire::decode(frame, message)) {
            fail("the master at " + where_ +
                 " sent bytes that are not a PCCL message. Check that pccl-master of this version runs there");
            return false;
        }
        host_.control_message(std::move(message));
        if (closed_) return false;
        if (silent_) break;
    }
    if (!whole) host_.control_heard();
    return !closed_;
}

void Control::send(const wire::ToMaster &message) {
    if (silent_) return;
    const auto bytes = wire::encode(message);
    queued_.insert(queued_.end(), bytes.begin(), bytes.end());
}

void Control::flush() {
    if (!open_ || queued_.empty() || !sending_.empty()) return;
    if (queued_.size() > kMaxQueued) {
        return fail("the master at " + where_ + " reads too slowly: " + std::to_string(queued_.size()) + " bytes wait for it");
    }
    sending_.swap(queued_);
    sent_ = 0;
    write_some();
}

void Control::write_some() {
    while (sent_ < sending_.size()) {
        const StreamResult result = stream_.write(std::span(sending_).subspan(sent_));
        if (result.state == StreamResult::State::would_block) {
            return socket_.async_wait(asio::ip::tcp::socket::wait_write,
                                      [self = shared_from_this()](const asio::error_code &error) {
                                          if (!self->closed_ && error != asio::error::operation_aborted) self->write_some();
                                      });
        }
        // From the event loop: the caller of flush() still uses this object.
        if (!result.done()) {
            return asio::post(socket_.get_executor(), [self = shared_from_this(), error = result.error] {
                if (self->silent_) return self->close();
                self->fail("the connection to the master failed: " + std::string(std::strerror(error)));
            });
        }
        sent_ += result.bytes;
    }
    sending_.clear();
    if (!queued_.empty()) return flush();
    if (silent_) finish_sending();
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
    if (queued_.empty() && sending_.empty())
        finish_sending();
    else
        flush();
}

void Control::drop() {
    silent_ = true;
    close();
}

/// If the socket were closed while bytes from the master are unread, the system would discard what was sent. So only the sending
/// side ends here, and the socket is closed once the master has closed its side.
void Control::finish_sending() { stream_.end_writing(); }

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
