// See connection.h.
#include "master/connection.h"

#include <memory>

namespace pccl::master {
namespace {

/// Larger buffers are freed when they are empty.
constexpr std::size_t kKeptBuffer = std::size_t{128} << 10;

}  // namespace

Connection *Connection::open(uv_loop_t &loop, ConnectionOwner &owner, protocol::ConnId id, Fd socket, const SocketAddress &from) {
    std::unique_ptr<Connection> connection(new Connection(owner, id, std::move(socket), from));
    if (uv_poll_init(&loop, &connection->poll_, connection->socket_.get()) != 0) return nullptr;
    connection->poll_.data = connection.get();
    connection->watch(UV_READABLE);
    return connection.release();
}

void Connection::watch(int events) {
    if (events == watched_) return;
    watched_ = events;
    uv_poll_start(&poll_, events, [](uv_poll_t *poll, int status, int) {
        auto &self = *static_cast<Connection *>(poll->data);
        self.owner_.on_ready(self, status < 0);
    });
}

void Connection::welcome(std::size_t output_limit) {
    if (state_ != State::before_hello) return;
    state_ = State::welcomed;
    output_limit_ = output_limit;
    frames_.set_limit(wire::kMaxControlBytes);
}

void Connection::drain() {
    state_ = State::draining;
    frames_ = wire::FrameBuffer(0);
    buffered_ = 0;
    if (queued() == 0) end_output();
}

void Connection::close() {
    state_ = State::closed;
    uv_close(reinterpret_cast<uv_handle_t *>(&poll_),
             [](uv_handle_t *handle) { delete static_cast<Connection *>(handle->data); });
    socket_.reset();
}

Connection::Input Connection::read(std::span<std::byte> scratch, int &error) {
    // Before Hello, a single read must not exceed the limit of a Hello.
    const std::size_t wanted =
        state_ == State::before_hello ? std::min(scratch.size(), wire::kMaxHelloBytes + sizeof(std::uint32_t)) : scratch.size();
    const StreamResult result = stream_.read(scratch.first(wanted));
    switch (result.state) {
    case StreamResult::State::done: break;
    case StreamResult::State::would_block: return Input::none;
    case StreamResult::State::closed: return Input::ended;
    case StreamResult::State::failed: error = result.error; return Input::failed;
    }
    const std::size_t bytes = result.bytes;
    if (state_ != State::draining) {
        frames_.append(scratch.first(bytes));
        buffered_ += bytes;
        large_ = large_ || buffered_ > kKeptBuffer;
    }
    return bytes == wanted ? Input::more : Input::none;
}

wire::FrameBuffer::Next Connection::next_frame(std::span<const std::byte> &frame) {
    if (buffered_ == 0 && large_) {
        frames_ = wire::FrameBuffer(frame_limit());
        large_ = false;
    }
    const auto next = frames_.next(frame);
    if (next == wire::FrameBuffer::Next::frame) buffered_ -= sizeof(std::uint32_t) + frame.size();
    return next;
}

std::size_t Connection::frame_limit() const {
    return state_ == State::before_hello ? wire::kMaxHelloBytes : wire::kMaxControlBytes;
}

bool Connection::queue(std::span<const std::byte> bytes) {
    if (output_broken_) return true;
    if (queued() + bytes.size() > output_limit_) return false;
    output_.insert(output_.end(), bytes.begin(), bytes.end());
    return true;
}

void Connection::flush() {
    while (queued() > 0) {
        const StreamResult result = stream_.write(std::span(output_).subspan(output_begin_));
        if (result.state == StreamResult::State::would_block) break;
        if (!result.done()) {
            // The other end is gone. Messages that it sent before may still be unread, so the reading side decides.
            output_broken_ = true;
            output_begin_ = output_.size();
            break;
        }
        output_begin_ += result.bytes;
    }
    if (queued() == 0) {
        output_.clear();
        output_begin_ = 0;
        if (output_.capacity() > kKeptBuffer) output_.shrink_to_fit();
    } else if (output_begin_ * 2 >= output_.size()) {
        output_.erase(output_.begin(), output_.begin() + static_cast<std::ptrdiff_t>(output_begin_));
        output_begin_ = 0;
    }
    watch(queued() == 0 ? UV_READABLE : UV_READABLE | UV_WRITABLE);
    if (queued() == 0 && state_ == State::draining) end_output();
}

void Connection::end_output() { stream_.end_writing(); }

}  // namespace pccl::master
