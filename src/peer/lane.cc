// See lane.h.
#include "peer/lane.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <asio/post.hpp>

#include "kernel/hash.h"
#include "kernel/planes.h"
#include "peer/careful_copy.h"
#include "peer/tcp_tuning.h"

namespace pccl::peer {

using wire::FrameHeader;
using wire::kFrameHeaderBytes;

namespace {

std::byte *drain_buffer(std::size_t size) {
    thread_local std::unique_ptr<std::byte[]> buffer(new std::byte[size]);
    return buffer.get();
}

}  // namespace

Lane::Lane(asio::ip::tcp::socket socket, Duration round_trip, LaneHandler &handler)
    : socket_(std::move(socket)), stream_(socket_.native_handle()), round_trip_(round_trip), handler_(&handler),
      staging_(new std::byte[kStaging]) {
    asio::error_code ignored;
    socket_.non_blocking(true, ignored);
    const auto endpoint = socket_.remote_endpoint(ignored);
    if (!ignored) remote_ = endpoint.address().to_string() + ":" + std::to_string(endpoint.port());
    const auto local = socket_.local_endpoint(ignored);
    inside_machine_ = !ignored && !remote_.empty() && local.address() == endpoint.address();
    if (inside_machine_) tune_inside_machine(socket_.native_handle());
    follows_rate_ = peer::follows_rate(socket_.native_handle());
}

void Lane::start() { wait_readable(); }

void Lane::close() {
    handler_ = nullptr;
    shut();
}

void Lane::shut() {
    closed_ = true;
    asio::error_code ignored;
    socket_.close(ignored);
    sending_.clear();
    intake_ = {};
}

/// The handler is called from the event loop, never from within its own call to this lane.
void Lane::fail(const std::string &why) {
    if (closed_) return;
    shut();
    asio::post(socket_.get_executor(), [self = shared_from_this(), why] {
        if (self->handler_) self->handler_->on_lane_down(*self, why);
    });
}

// ------------------------------------------------------------------------------------------------------------------ reading --

void Lane::wait_readable() {
    if (closed_) return;
    socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](const asio::error_code &error) {
        if (!error)
            self->read_some();
        else if (error != asio::error::operation_aborted)
            self->fail(error.message());
    });
}

void Lane::restart_reading() {
    asio::post(socket_.get_executor(), [self = shared_from_this()] {
        if (!self->closed_ && !self->held_) self->read_some();
    });
}

void Lane::resume() {
    if (closed_ || !held_) return;
    held_ = false;
    restart_reading();
}

void Lane::read_some() {
    const auto keep = shared_from_this();  // a callback may release the last other reference
    std::size_t budget = kReadBudget;
    while (!closed_) {
        if (!consume_staging()) return;  // held, closed or failed
        if (budget == 0) return restart_reading();
        iovec parts[2];
        std::size_t used = 0;
        std::size_t payload_room = 0;
        if (in_payload_) {
            payload_room = header_.bytes - received_;
            if (intake_.action == Intake::Action::take) {
                parts[used++] = {reads_into() + received_, payload_room};
            } else {
                payload_room = std::min(payload_room, kDrain);
                parts[used++] = {drain_buffer(kDrain), payload_room};
            }
        }
        // Staging is empty, or holds less than a header at its front. A bulk frame is most likely followed by another one. Only
        // the header of that one is staged, so that its payload is not copied.
        const bool drains_part = in_payload_ && received_ + payload_room < header_.bytes;
        const std::size_t next_head = kFrameHeaderBytes + (header_.planes != 0 ? wire::kPlainLengthBytes : 0);
        const std::size_t stage = in_payload_ && header_.bytes >= kBulk ? next_head : kStaging;
        if (!drains_part) parts[used++] = {staging_.get() + staged_end_, stage - staged_end_};
        const StreamResult result = stream_.readv({parts, used});
        switch (result.state) {
        case StreamResult::State::done: break;
        case StreamResult::State::would_block: return wait_readable();
        case StreamResult::State::closed: return fail("the other end closed the connection");
        case StreamResult::State::failed:
            if (result.error == EFAULT && drop_unwritable()) continue;
            return fail(std::strerror(result.error));
        }
        const std::size_t bytes = result.bytes;
        read_ += bytes;
        budget -= std::min(budget, bytes);
        const std::size_t to_payload = std::min(bytes, payload_room);
        received_ += to_payload;
        staged_end_ += bytes - to_payload;
        if (in_payload_) sum_payload();
        if (in_payload_ && received_ == header_.bytes && !finish_payload()) return;
    }
}

/// Takes frames out of the staging buffer until it holds less than a header. False: stop reading.
bool Lane::consume_staging() {
    for (;;) {
        const std::size_t staged = staged_end_ - staged_begin_;
        if (in_payload_) {
            const std::size_t part = std::min(staged, header_.bytes - received_);
            if (part > 0 && intake_.action == Intake::Action::take) {
                std::memcpy(reads_into() + received_, staging_.get() + staged_begin_, part);
            }
            staged_begin_ += part;
            received_ += part;
            if (received_ < header_.bytes) break;
            if (!finish_payload()) return false;
        } else {
            if (staged < kFrameHeaderBytes) break;
            std::memcpy(&header_, staging_.get() + staged_begin_, kFrameHeaderBytes);
            if (!check_header()) return false;
            plain_ = header_;
            if (header_.planes != 0) {
                if (staged < kFrameHeaderBytes + wire::kPlainLengthBytes) break;
                plain_.planes = 0;
                plain_.bytes = plain_length(staging_.get() + staged_begin_ + kFrameHeaderBytes);
            }
            if (!accept_header()) return false;
            staged_begin_ += kFrameHeaderBytes;
        }
    }
    if (staged_begin_ > 0) {
        std::memmove(staging_.get(), staging_.get() + staged_begin_, staged_end_ - staged_begin_);
        staged_end_ -= staged_begin_;
        staged_begin_ = 0;
    }
    return true;
}

/// Checks the header without regard to the state of the link.
bool Lane::check_header() {
    if (header_.magic != wire::kFrameMagic || static_cast<int>(header_.kind) >= wire::kFrameKinds) {
        fail("not a PCCL frame: bad magic or kind");
        return false;
    }
    if (header_.header_checksum != kernel::checksum(&header_, wire::kHeaderChecked)) {
        fail("a frame header with a wrong checksum");
        return false;
    }
    if (header_.bytes > wire::kMaxChunkBytes) {
        fail("a frame of " + std::to_string(header_.bytes) + " bytes, beyond the limit");
        return false;
    }
    const bool known = header_.planes == 0 || (kernel::is_plane_count(header_.planes) && wire::may_be_compressed(header_.kind));
    if (!known || (header_.planes != 0 && header_.bytes <= wire::kPlainLengthBytes)) {
        fail("a frame with an invalid compression");
        return false;
    }
    return true;
}

bool Lane::accept_header() {
    if (header_.planes != 0 && (plain_.bytes <= header_.bytes || plain_.bytes > wire::kMaxChunkBytes)) {
        fail("a frame of " + std::to_string(header_.bytes) + " bytes with an invalid plain length of " +
             std::to_string(plain_.bytes));
        return false;
    }
    intake_ = handler_->on_header(*this, plain_);
    if (closed_) return false;
    switch (intake_.action) {
    case Intake::Action::hold:
        if (!held_since_) held_since_ = monotonic_now();
        held_ = true;
        return false;
    case Intake::Action::reject: {
        const std::string why = intake_.why;
        fail(why);
        return false;
    }
    case Intake::Action::take:
    case Intake::Action::drain: break;
    }
    held_since_.reset();
    in_payload_ = true;
    packed_ = header_.planes != 0 && intake_.action == Intake::Action::take ? packed_memory(header_.bytes) : nullptr;
    received_ = 0;
    checksum_ = {};
    summed_ = 0;
    return true;
}

/// Adds the bytes just read to the checksum while they are in cache, except those at the end.
void Lane::sum_payload() {
    constexpr std::size_t kEnd = 64;  // the smallest number of bytes that finish() accepts
    if (intake_.action != Intake::Action::take || (intake_.taker_checks && !packed_) || received_ < summed_ + kBulk) return;
    const std::size_t sure = std::min<std::size_t>(received_, header_.bytes - kEnd);
    const std::size_t grains = (sure - summed_) / kernel::Checksum::kGrain * kernel::Checksum::kGrain;
    checksum_.add(reads_into() + summed_, grains);
    summed_ += grains;
}

bool Lane::finish_payload() {
    in_payload_ = false;
    const std::byte *const read = reads_into();
    Intake intake = std::exchange(intake_, {});
    Buffer packed = std::exchange(packed_, nullptr);
    if (intake.action != Intake::Action::take) return true;
    const bool checked_here = header_.bytes > 0 && (packed || !intake.taker_checks);
    bool damaged = checked_here && checksum_.finish(read + summed_, header_.bytes - summed_) != header_.checksum;
    if (!damaged && packed && intake.owner) {
        // The checksum that this peer passes on must not be computed over memory that the program can change.
        intake.keep = packed_memory(plain_.bytes);
        intake.into = intake.keep.get();
    }
    if (!damaged && packed && !unpack_payload(intake.into, std::move(packed))) return false;
    damaged = damaged || !handler_->on_frame(*this, plain_, intake.into, intake.keep);
    arrived_packed_.reset();
    if (damaged && !closed_ && (header_.planes != 0 || !handler_->on_damaged(*this, plain_))) {
        fail("a frame with a wrong checksum");
        return false;
    }
    return !closed_;
}

/// Decompresses the payload. `plain_` then has the checksum of the plain payload.
bool Lane::unpack_payload(std::byte *into, Buffer packed) {
    if (!unpack(into, plain_.bytes, packed.get(), header_.bytes, header_.planes)) {
        fail("a frame that cannot be decompressed");
        return false;
    }
    plain_.checksum = kernel::checksum(into, plain_.bytes);
    arrived_packed_ = std::make_shared<Packed>(Packed{std::move(packed), header_.bytes, header_.checksum, header_.planes, true});
    return true;
}

// ------------------------------------------------------------------------------------------------------------------ writing --

void Lane::wait_writable() {
    waiting_to_write_ = true;
    socket_.async_wait(asio::ip::tcp::socket::wait_write, [self = shared_from_this()](const asio::error_code &error) {
        self->waiting_to_write_ = false;
        if (!error)
            self->kick();
        else if (error != asio::error::operation_aborted)
            self->fail(error.message());
    });
}

void Lane::kick() {
    if (closed_ || waiting_to_write_ || writing_) return;
    writing_ = true;
    const auto keep = shared_from_this();
    while (write_some(kGatherBytes) > 0) {
    }
    writing_ = false;
}

bool Lane::kick_once() {
    if (closed_ || waiting_to_write_ || writing_) return false;
    writing_ = true;
    const auto keep = shared_from_this();
    std::size_t put = write_some(kTiny);
    while (put > kGatherBytes + kFrameHeaderBytes)
        put = write_some(kGatherBytes);
    writing_ = false;
    return put > 0;
}

/// Makes one system call and returns the bytes written; 0: the socket is full, or there is no frame. Frames are gathered up to
/// `gather_bytes`. A large frame has a system call of its own, while its payload is still in cache.
std::size_t Lane::write_some(std::size_t gather_bytes) {
    std::size_t queued = 0;
    for (const auto &frame : sending_)
        queued += kFrameHeaderBytes + frame.header.bytes;
    while (sending_.size() < kGather && queued < gather_bytes) {
        OutFrame frame;
        if (!handler_->next_frame(*this, frame)) break;
        frame.header.header_checksum = kernel::checksum(&frame.header, wire::kHeaderChecked);
        queued += kFrameHeaderBytes + frame.header.bytes;
        sending_.push_back(std::move(frame));
    }
    if (closed_ || sending_.empty()) return 0;

    std::array<iovec, 2 * kGather> parts;
    std::size_t used = 0;
    std::size_t skip = sent_of_first_;
    for (auto &frame : sending_) {
        if (skip < kFrameHeaderBytes) {
            parts[used++] = {reinterpret_cast<std::byte *>(&frame.header) + skip, kFrameHeaderBytes - skip};
            skip = 0;
        } else {
            skip -= kFrameHeaderBytes;
        }
        if (frame.header.bytes > skip) {
            parts[used++] = {const_cast<std::byte *>(frame.payload) + skip, frame.header.bytes - skip};
        }
        skip = 0;
    }
    const StreamResult result = stream_.writev({parts.data(), used});
    if (!result.done()) {
        if (result.state == StreamResult::State::would_block)
            wait_writable();
        else if (result.error == EFAULT && replace_unreadable())
            return write_some(gather_bytes);
        else
            fail(std::strerror(result.error));
        return 0;
    }
    written_ += result.bytes;
    std::size_t left = result.bytes + sent_of_first_;
    std::size_t done = 0;
    while (done < sending_.size() && left >= kFrameHeaderBytes + sending_[done].header.bytes) {
        left -= kFrameHeaderBytes + sending_[done].header.bytes;
        ++done;
    }
    sending_.erase(sending_.begin(), sending_.begin() + static_cast<std::ptrdiff_t>(done));
    sent_of_first_ = sending_.empty() ? 0 : left;
    return result.bytes;
}

/// The program has freed memory that is being sent. Zeros are sent instead, so that the frames keep their lengths. The receiver
/// finds a wrong checksum and requests the frame again; then the operation fails with an error that names the buffer. False: all
/// of the memory is readable.
bool Lane::replace_unreadable() {
    bool found = false;
    for (OutFrame &frame : sending_) {
        if (!frame.owner) continue;
        Buffer copy(new std::byte[frame.header.bytes]);
        if (copy_carefully(copy.get(), frame.payload, frame.header.bytes)) continue;
        std::memset(copy.get(), 0, frame.header.bytes);
        frame.payload = copy.get();
        frame.keep = std::move(copy);
        frame.owner = nullptr;
        found = true;
    }
    return found;
}

/// The program has freed the memory that a payload is received into. False: the memory does not belong to the program.
bool Lane::drop_unwritable() {
    if (!in_payload_ || intake_.action != Intake::Action::take || !intake_.owner || packed_) return false;
    intake_ = {};
    handler_->on_unwritable(*this, plain_);
    return true;
}

void Lane::watch(Time now, Duration limit) {
    if (closed_ || written_ == at_rest_) return;
    const std::uint64_t outstanding = outstanding_bytes();
    stall_.observe(now, written_ - std::min(written_, outstanding), outstanding);
    if (outstanding == 0) at_rest_ = written_;
    if (stall_.stalled() < limit) return;
    const auto state = health();
    if (!state || !state->awaits_ack || state->since_ack < limit) return;
    fail(std::to_string(outstanding) + " bytes were not acknowledged for " +
         to_string(std::min(stall_.stalled(), state->since_ack)) + " and retransmitted " +
         std::to_string(state->retransmissions) + " times: the path is dead in at least one direction");
}

std::uint64_t Lane::delivered_bytes(const std::optional<TcpHealth> &health) {
    const std::uint64_t now = health ? health->delivered : written_ - std::min(written_, outstanding_bytes());
    return delivered_ = std::max(delivered_, now);  // the other end may discard bytes that it has out of order
}

void Lane::detach(const void *owner) {
    for (std::size_t i = 0; i < sending_.size();) {
        OutFrame &frame = sending_[i];
        if (frame.owner != owner) {
            ++i;
        } else if (i == 0 && sent_of_first_ > 0) {
            // Its header is sent, so the receiver expects the rest.
            Buffer copy(new std::byte[frame.header.bytes]);
            std::memcpy(copy.get(), frame.payload, frame.header.bytes);
            frame.payload = copy.get();
            frame.keep = std::move(copy);
            frame.owner = nullptr;
            ++i;
        } else {
            sending_.erase(sending_.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
    if (in_payload_ && intake_.owner == owner && intake_.action == Intake::Action::take) intake_ = {};
}

}  // namespace pccl::peer
