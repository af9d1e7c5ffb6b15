// See link.h.
#include "peer/link.h"

#include <algorithm>

#include <asio/connect.hpp>
#include <asio/post.hpp>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/outgoing.h"
#include "kernel/hash.h"
#include "peer/endpoint.h"
#include "peer/tcp_tuning.h"

namespace pccl::peer {

using wire::FrameHeader;
using wire::FrameKind;

namespace {

/// Lanes are compared over one round trip, or over this time if it is longer.
constexpr Duration kLeastMeasured = std::chrono::milliseconds(50);
/// Damaged frames that are remembered.
constexpr std::size_t kMaxDamaged = 4096;
/// Bytes of urgent frames (openings and replies) that may wait. Beyond it, the link to a peer that does not read replies fails.
constexpr std::size_t kMaxUrgentMiB = 64;
/// Longest time that a frame waits for its view. The master sends a view to all members at the same time.
constexpr Duration kMaxHeld = std::chrono::seconds(30);
/// A lane is lagging if its rate is below this share of the mean lane's rate.
constexpr double kLaggingShare = 0.25;
/// Interval at which lanes are checked for progress.
constexpr Duration kWatchInterval = std::chrono::milliseconds(250);
/// Between two ticks, microseconds per lane in which the receiver's window may be full before the receiver counts as not reading.
constexpr std::uint64_t kReceiverStall_us = 5000;

std::uint64_t us(Duration d) { return static_cast<std::uint64_t>(d.count()); }

}  // namespace

OutFrame small_frame(FrameHeader header, const wire::Bytes &payload) {
    OutFrame frame;
    frame.header = header;
    frame.header.bytes = static_cast<std::uint32_t>(payload.size());
    if (!payload.empty()) {
        frame.keep = Buffer(new std::byte[payload.size()]);
        std::memcpy(frame.keep.get(), payload.data(), payload.size());
        frame.payload = frame.keep.get();
        frame.header.checksum = kernel::checksum(payload.data(), payload.size());
    }
    return frame;
}

Link::Link(asio::io_context &io, LinkOwner &owner, const FrameConsumers &consumers, const wire::OpenLink &how,
           const wire::LinkHello &hello, const Options &options, Duration dead_after)
    : io_(io), owner_(owner), consumers_(consumers), self_(how.dial ? hello.from : hello.to), hello_(hello),
      address_(how.address), lanes_asked_(how.lanes), dials_(how.dial), options_(options), dead_after_(dead_after), timer_(io),
      compressor_(options.compression) {}

void Link::dial() {
    timer_.expires_after(options_.connect_timeout);
    timer_.async_wait([self = shared_from_this()](const asio::error_code &error) {
        if (!error && !self->up_)
            self->fail("no answer from " + to_string(self->address_) + " within " + to_string(self->options_.connect_timeout));
    });
    dial_lane();
}

void Link::dial_lane() {
    const auto socket = std::make_shared<asio::ip::tcp::socket>(io_);
    const auto endpoint = to_endpoint(address_);
    Fd fd = open_stream(address_.ip.v6);
    if (fd) {  // otherwise async_connect reports the error
        keep_off_target_port(fd, address_);
        tune_before_connecting(fd.get(), options_.congestion_control);
        asio::error_code failed;
        socket->assign(endpoint.protocol(), fd.get(), failed);
        if (!failed) fd.release();
    }
    socket->async_connect(endpoint, [self = shared_from_this(), socket](asio::error_code error) {
        if (self->closed_) return;
        if (!error) error = asio::error_code(Stream(socket->native_handle()).handshake(), asio::error::get_system_category());
        if (error) {
            // Without a further lane the link is only slower. Without the first one there is no link.
            if (!self->up_)
                self->fail("cannot connect to " + to_string(self->address_) + ": " + error.message() + self->advice());
            return;
        }
        const Duration round_trip = tune_connected(socket->native_handle(), self->options_.congestion_control);
        self->dialled(std::make_shared<Lane>(std::move(*socket), round_trip, *self));
    });
}

std::string Link::advice() const {
    if (!address_.ip.link_local() || address_.ip.zone != 0) return "";
    return ". A link-local address needs an interface: give this peer a listen_address with a zone, for example "
           "fe80::1%eth0";
}

void Link::dialled(std::shared_ptr<Lane> lane) {
    greeting_.push_back(lane);
    greeting_due_.push_back(lane.get());
    lane->give_up_after(2 * dead_after_);
    lane->start();
    lane->kick();  // sends the hello
}

void Link::adopt(std::shared_ptr<Lane> lane) {
    if (lanes_.size() >= wire::kMaxLanes) return lane->close();
    lane->set_handler(*this);
    lane->give_up_after(2 * dead_after_);
    lanes_.push_back(lane);
    greeting_due_.push_back(lane.get());
    if (!up_) {
        came_up(*lane);
        owner_.on_link_up(*this);
    }
    lane->kick();
    lane->resume();
}

void Link::on_accept(Lane &lane) {
    const auto found = std::ranges::find_if(greeting_, [&](const auto &l) { return l.get() == &lane; });
    if (found == greeting_.end()) return;
    lanes_.push_back(*found);
    greeting_.erase(found);
    if (!up_) {
        came_up(lane);
        timer_.cancel();
        for (std::size_t i = 1; i < wanted_lanes(); ++i)
            dial_lane();
        owner_.on_link_up(*this);
    }
    kick();
}

void Link::came_up(const Lane &lane) {
    up_ = true;
    round_trip_ = lane.round_trip();
    compressor_.begin(options_.compression, round_trip_, lane.inside_machine());
}

std::uint64_t Link::read_bytes() const {
    std::uint64_t bytes = 0;
    for (const auto &lane : lanes_)
        bytes += lane->read_bytes();
    return bytes;
}

/// One connection fills a short path. Over a long path, several connections reach full speed sooner, and a loss slows down only
/// one.
std::size_t Link::wanted_lanes() const {
    if (lanes_asked_ > 0) return std::min<std::size_t>(lanes_asked_, wire::kMaxLanes);
    if (round_trip_ < std::chrono::milliseconds(1)) return 1;
    if (round_trip_ < std::chrono::milliseconds(10)) return 4;
    if (round_trip_ < std::chrono::milliseconds(75)) return 8;
    return 16;
}

void Link::tick(Time now) {
    if (!up_ || closed_) return;
    if (!producers_.empty()) {
        ++looks_;
        backlogged_ += std::ranges::any_of(lanes_, [](const auto &lane) { return lane->backlogged(); });
    }
    if (now - watched_ >= kWatchInterval) watch(now);
    if (round_trip_ >= kLongPath && !lanes_.empty()) tune(now);
    if (compressor_.measures() && !lanes_.empty()) judge_compression(now);
}

/// Reports to the compressor what the path delivers, and whether the path limits the link: over a long path, bytes are
/// outstanding; over a short path, all lanes are backlogged. It does not limit the link while the receiver does not read.
void Link::judge_compression(Time now) {
    LinkWork work;
    work.busy = !producers_.empty();
    if (!work.busy) return compressor_.observe(now, work);
    std::uint64_t outstanding = 0, receiver_limited_us = 0;
    bool backlogged = true;
    for (const auto &lane : lanes_) {
        outstanding += lane->outstanding_bytes();
        backlogged = backlogged && lane->backlogged();
        const auto health = lane->health();
        work.delivered += lane->delivered_bytes(health);
        if (health) receiver_limited_us += us(health->receiver_limited);
    }
    const bool reads =
        receiver_limited_us <= std::exchange(receiver_limited_us_, receiver_limited_us) + kReceiverStall_us * lanes_.size();
    work.path_limited = reads && (round_trip_ >= kLongPath ? outstanding > 0 : backlogged);
    compressor_.observe(now, work);
}

/// Detects a path that delivers nothing. The kernel's limit is twice this one, because the kernel cannot distinguish a dead path
/// from a receiver that was stopped for a while.
void Link::watch(Time now) {
    watched_ = now;
    for (const auto &lane : lanes_)
        lane->watch(now, dead_after_);
}

wire::LinkProgress Link::progress() {
    const auto ms = [](Duration d) {
        return static_cast<std::uint32_t>(std::clamp<Duration::rep>(d.count() / 1000, 0, UINT32_MAX));
    };
    wire::LinkProgress sum;
    sum.other = other();
    sum.looks = looks_;
    sum.backlogged = backlogged_;
    for (const auto &lane : lanes_) {
        const auto health = lane->health();
        if (!health) continue;
        const std::uint64_t outstanding = lane->outstanding_bytes();
        const Duration stalled = outstanding > 0 ? lane->stalled() : Duration(0);
        sum.sent += lane->written_bytes();
        sum.received += lane->read_bytes();
        sum.outstanding += outstanding;
        sum.stalled_ms = std::max(sum.stalled_ms, ms(stalled));
        if (health->awaits_ack) sum.unanswered_ms = std::max(sum.unanswered_ms, ms(std::min(stalled, health->since_ack)));
        sum.round_trip_us = std::max(sum.round_trip_us, static_cast<std::uint32_t>(us(health->round_trip)));
        sum.retransmitted += health->retransmitted;
        sum.busy_us += us(health->busy);
        sum.receiver_limited_us += us(health->receiver_limited);
        sum.buffer_limited_us += us(health->buffer_limited);
        sum.bytes_per_s += health->bytes_per_s;
    }
    return sum;
}

void Link::tune(Time now) {
    // An idle link makes no system calls. The last check before is the one that finds no outstanding bytes.
    if (producers_.empty() && resting_) return;
    if (!pacer_) pacer_.emplace(round_trip_);
    resting_ = producers_.empty();
    Pacer::Sample sample;
    sample.round_trip = Duration::max();
    LaneChoice::Work work;
    for (const auto &lane : lanes_) {
        Pace &pace = paces_[lane.get()];
        pace.outstanding = lane->outstanding_bytes();
        const auto health = lane->health();
        pace.delivered = lane->delivered_bytes(health);
        sample.delivered += pace.delivered;
        if (!pace.rests) sample.round_trip = std::min(sample.round_trip, health ? health->round_trip : Duration(0));
        if (health) sample.resent += health->resent;
        if (health) work.busy_us += us(health->busy);
        if (health) work.held_up_us += us(health->receiver_limited + health->buffer_limited);
        resting_ = resting_ && pace.outstanding == 0;
    }
    compare_lanes(now);
    choose_lanes(work);
    sample.backlogged = std::ranges::all_of(lanes_, [&](const auto &lane) {
        const Pace &pace = paces_[lane.get()];
        return lane->backlogged() || pace.lags || pace.rests;
    });
    if (!producers_.empty()) kick();  // lanes that were held back may send now
    if (!pacer_->observe(now, sample)) return;
    const auto limit = pacer_->limit();
    for (const auto &lane : lanes_) {
        if (limit) lane->limit_rate(*limit / lane_choice_->in_use());
    }
}

/// Decides which lanes rest. Lagging lanes do not count as used.
void Link::choose_lanes(const LaneChoice::Work &work) {
    if (!lane_choice_ || lane_choice_->lanes() != lanes_.size())
        lane_choice_.emplace(lanes_.size(), lanes_asked_ > 0 || !lanes_.front()->follows_rate());
    if (lane_choice_->observe(pacer_->limit().has_value(), work)) pacer_.emplace(round_trip_);
    std::size_t left = lane_choice_->in_use();
    for (const auto &lane : lanes_) {
        Pace &pace = paces_[lane.get()];
        pace.rests = !pace.lags && left == 0;
        if (!pace.lags && left > 0) --left;
    }
}

/// Finds the lanes that are much slower than the others.
void Link::compare_lanes(Time now) {
    const Duration passed = now - compared_, least = std::max(round_trip_, kLeastMeasured);
    if (passed < least && !resting_) return;  // when the link becomes idle, the measurement ends at once
    compared_ = now;
    double sum = 0;
    for (auto &[lane, pace] : paces_) {
        const bool busy = pace.outstanding > 0;
        if (busy && pace.busy && passed < 4 * least) {
            const double achieved =
                static_cast<double>(pace.delivered - pace.at_last) * 1e6 / static_cast<double>(passed.count());
            pace.bytes_per_s = pace.bytes_per_s == 0 ? achieved : (pace.bytes_per_s + achieved) / 2;
        }
        pace.at_last = pace.delivered;
        pace.busy = busy;
        sum += pace.bytes_per_s;
    }
    for (auto &[lane, pace] : paces_) {
        pace.lags = pace.bytes_per_s > 0 && pace.bytes_per_s < kLaggingShare * sum / static_cast<double>(lanes_.size());
    }
}

/// A resting lane takes no frames. A lagging lane takes no more than it will deliver soon, so that operations do not wait for it
/// at their end.
bool Link::holds_back(Lane &lane) {
    const auto pace = paces_.find(&lane);
    if (pace == paces_.end()) return false;
    if (pace->second.rests) return true;
    if (!pace->second.lags) return false;
    const std::uint64_t outstanding = lane.outstanding_bytes();
    const double soon = pace->second.bytes_per_s * std::chrono::duration<double>(round_trip_ + kLeastMeasured).count();
    return outstanding > 0 && static_cast<double>(outstanding) > soon;
}

std::size_t Link::eager_budget() const {
    constexpr std::size_t kBytesPerUs = 125;  // 1 Gbit/s
    const auto us = static_cast<std::size_t>(std::max<Duration::rep>(round_trip_.count(), 0));
    return std::clamp(us * 3 / 2 * kBytesPerUs, wire::kEagerBytes, wire::kMaxEagerBytes);
}

void Link::send_urgent(OutFrame frame) {
    const std::size_t bytes = wire::kFrameHeaderBytes + frame.header.bytes;
    if (urgent_bytes_ + bytes > kMaxUrgentMiB << 20) {
        return fail_soon(std::to_string(kMaxUrgentMiB) + " MiB of replies are unread: the peer sends requests and does not read");
    }
    urgent_bytes_ += bytes;
    urgent_.push_back(std::move(frame));
    kick();
}

void Link::check_held(Time now, Time master_up_since) {
    for (const auto &lane : lanes_) {
        const auto since = lane->held_since();
        if (since && now - std::max(*since, master_up_since) > kMaxHeld) {
            return fail_soon("the view of a frame that it sent has not arrived within " + to_string(kMaxHeld));
        }
    }
}

/// Fails from the event loop, because the caller may still use this link.
void Link::fail_soon(std::string why) {
    asio::post(io_, [self = shared_from_this(), why = std::move(why)] {
        self->fail("the connection with " + to_string(self->address_) + " was closed: " + why);
    });
}

void Link::add_producer(Producer *producer) { producers_.push_back(producer); }

void Link::remove_producer(Producer *producer) {
    std::erase(producers_, producer);
    next_producer_ = 0;
}

void Link::kick() {
    if (!up_ || closed_) return;
    // Each call begins with another lane.
    const std::size_t first = next_lane_++;
    if (round_trip_ < kLongPath) {
        for (std::size_t i = 0; i < lanes_.size() && !closed_; ++i)
            lanes_[(first + i) % lanes_.size()]->kick();
        return;
    }
    // One frame at a time, each on the next lane: a lane that took as much as its buffer holds would need several round trips to
    // send it.
    bool more = true;
    while (more) {
        more = false;
        for (std::size_t i = 0; i < lanes_.size() && !closed_; ++i)
            more = lanes_[(first + i) % lanes_.size()]->kick_once() || more;
    }
}

void Link::resume() {
    const auto lanes = lanes_;
    for (const auto &lane : lanes)
        lane->resume();
}

void Link::detach(const void *owner) {
    for (const auto &lane : lanes_)
        lane->detach(owner);
}

void Link::close() {
    closed_ = true;
    timer_.cancel();
    for (const auto &lane : lanes_)
        lane->close();
    for (const auto &lane : greeting_)
        lane->close();
    urgent_.clear();
    urgent_bytes_ = 0;
    damaged_.clear();
    producers_.clear();
}

void Link::fail(const std::string &why) {
    if (closed_) return;
    const auto keep = shared_from_this();
    close();
    owner_.on_link_down(*this, why);
}

Intake Link::on_header(Lane &lane, const FrameHeader &header) {
    if (header.kind == FrameKind::link_accept) {
        if (header.bytes != 0 || !dials_) return Intake::reject("an unexpected link_accept");
        on_accept(lane);
        return {};
    }
    const bool in_use = std::ranges::any_of(lanes_, [&](const auto &l) { return l.get() == &lane; });
    if (!in_use || header.kind == FrameKind::link_hello) {
        return Intake::reject("a frame before the link was accepted");
    }
    if (header.kind == FrameKind::ask_again) {
        if (header.bytes != wire::kFrameHeaderBytes) return Intake::reject("an ask_again with a payload of the wrong length");
        return Intake::take(Buffer(new std::byte[wire::kFrameHeaderBytes]));
    }
    FrameConsumer *const consumer = consumers_.of(header.kind);
    if (!consumer) return Intake::reject("a frame of a kind that this peer does not receive");
    Intake intake = consumer->prepare_receive(*this, header);
    // If the program may have overwritten a payload after it arrived, further payloads of the operation go to the library's own
    // memory.
    const auto of_operation = [&](const FrameName &name) { return name.op == header.op(); };
    if (!damaged_.empty() && intake.owner && intake.action == Intake::Action::take &&
        std::ranges::any_of(damaged_, of_operation)) {
        const bool taker_checks = intake.taker_checks;
        intake = Intake::take(Buffer(new std::byte[header.bytes]));
        intake.taker_checks = taker_checks;
    }
    return intake;
}

bool Link::on_frame(Lane &lane, const FrameHeader &header, std::byte *payload, const Buffer &keep) {
    if (header.kind == FrameKind::ask_again) {
        on_asked_again(payload);
        return true;
    }
    FrameConsumer &consumer = *consumers_.of(header.kind);
    if (!lane.arrived_packed()) return consumer.receive(*this, header, payload, keep);
    const auto self = shared_from_this();
    arrived_packed_ = lane.arrived_packed();
    const bool right = consumer.receive(*this, header, payload, keep);
    arrived_packed_.reset();
    return right;
}

/// The sender can distinguish a path that damages frames from a program that changes its buffers; the receiver cannot. So the
/// receiver requests the frame again.
bool Link::on_damaged(Lane &, const FrameHeader &header) {
    if (!wire::may_be_asked_again(header.kind)) return false;
    if (damaged_.size() >= kMaxDamaged) damaged_.clear();  // left by operations that have not ended here; the sender also counts
    if (!damaged_.insert(name_of(header)).second) return false;  // damaged twice: by the path
    PCCL_LOG_INFO("a frame from %s has a wrong checksum and is requested again", to_string(other()).c_str());
    consumers_.of(header.kind)->damaged(*this, header);
    FrameHeader ask;
    ask.kind = FrameKind::ask_again;
    const auto *bytes = reinterpret_cast<const std::byte *>(&header);
    send_urgent(small_frame(ask, wire::Bytes(bytes, bytes + sizeof header)));
    return true;
}

void Link::on_asked_again(const std::byte *payload) {
    FrameHeader header;
    std::memcpy(&header, payload, sizeof header);
    if (header.magic != wire::kFrameMagic || !wire::may_be_asked_again(header.kind) || header.planes != 0 || header.bytes == 0)
        return fail_soon("it requests a frame again that cannot have been sent");
    consumers_.of(header.kind)->send_again(*this, header);
}

void Link::send_again(const FrameHeader &header, Buffer payload) {
    if (++sent_again_ > wire::kMaxSentAgain)
        return fail_soon("the path damages frames: " + std::to_string(sent_again_) + " arrived with a wrong checksum");
    OutFrame frame;
    frame.header = header;
    frame.payload = payload.get();
    frame.keep = std::move(payload);
    send_urgent(std::move(frame));
}

bool Link::next_frame(Lane &lane, OutFrame &frame) {
    const bool greeting = std::ranges::any_of(greeting_, [&](const auto &l) { return l.get() == &lane; });
    if (std::erase(greeting_due_, &lane) > 0) {
        wire::Bytes payload;
        wire::Writer write(payload);
        if (greeting) write(hello_);
        FrameHeader header;
        header.kind = greeting ? FrameKind::link_hello : FrameKind::link_accept;
        frame = small_frame(header, payload);
        return true;
    }
    if (greeting) return false;
    if (!urgent_.empty()) {
        frame = std::move(urgent_.front());
        urgent_.pop_front();
        urgent_bytes_ -= wire::kFrameHeaderBytes + frame.header.bytes;
        return true;
    }
    if (!paces_.empty() && holds_back(lane)) return false;
    for (std::size_t i = 0; i < producers_.size(); ++i) {
        Producer *producer = producers_[next_producer_++ % producers_.size()];
        if (!producer->produce(*this, frame)) continue;
        if (const std::size_t saved = compressor_.pack(frame)) producer->sent_smaller(saved);
        return true;
    }
    return false;
}

void Link::on_lane_down(Lane &lane, const std::string &why) {
    const auto greeting = std::ranges::find_if(greeting_, [&](const auto &l) { return l.get() == &lane; });
    if (greeting != greeting_.end() && up_) {
        greeting_.erase(greeting);
        return;
    }
    fail("the connection with " + to_string(address_) + " failed: " + why);
}

}  // namespace pccl::peer
