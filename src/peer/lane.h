// One TCP connection of a link: frames in, frames out. I/O thread only.
//
// Reading tries the system call first and waits only on would-block. While a payload is read, the bytes behind it go to a small staging
// buffer in the same call, so that a frame costs no system call of its own for its header. A lane pulls the next frame to send from its
// source when it has room for it: a slow lane takes less, and none gates another.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <asio/ip/tcp.hpp>

#include "base/time.h"
#include "kernel/hash.h"
#include "peer/packed.h"
#include "peer/stall_watch.h"
#include "peer/tcp_health.h"
#include "peer/tcp_tuning.h"
#include "wire/frame.h"

namespace pccl::peer {

/// A frame to be sent. `payload` is kept alive by `keep`, or by whoever named `owner`, who detaches it before the memory goes.
struct OutFrame {
    wire::FrameHeader header;
    const std::byte *payload = nullptr;
    Buffer keep;
    const void *owner = nullptr;  ///< for detach(); null if `keep` holds the payload
    std::uint8_t planes = 0;      ///< bytes of an element of the payload: the link may compress it. 0: it may not
    PackedPtr packed;             ///< the same compressed, if it is known, or to be known by all frames that carry it; else null
};

class Lane;

/// What a lane does with the payload of a frame whose header has arrived.
struct Intake {
    enum class Action { take, drain, hold, reject } action = Action::drain;
    std::byte *into = nullptr;    ///< take: header.bytes of room
    Buffer keep;                  ///< keeps `into` alive if set
    const void *owner = nullptr;  ///< for detach()
    std::string why;              ///< reject
    bool taker_checks = false;    ///< take: on_frame() compares the checksum, while it works on the payload

    /// Into memory of its own.
    static Intake take(Buffer buffer) {
        std::byte *const into = buffer.get();
        return {Action::take, into, std::move(buffer), nullptr, {}};
    }
    static Intake reject(std::string why) { return {Action::reject, nullptr, nullptr, nullptr, std::move(why)}; }
    static Intake hold() { return {Action::hold, nullptr, nullptr, nullptr, {}}; }
};

class LaneHandler {
public:
    virtual ~LaneHandler() = default;
    /// A header arrived and its checksum is right. Of a payload that travels compressed, `bytes` is what becomes of it. `hold`: ask again after resume().
    virtual Intake on_header(Lane &lane, const wire::FrameHeader &header) = 0;
    /// A payload that was taken arrived whole, plain, and its checksum is right unless Intake::taker_checks left that to be found out here.
    /// False: it is wrong; the lane fails.
    virtual bool on_frame(Lane &lane, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) = 0;
    /// The payload of a frame has not the checksum that its header says. `header` is as if the payload had come plain.
    /// True: the handler has dealt with it, and the lane continues. False: the lane fails.
    virtual bool on_damaged(Lane & /*lane*/, const wire::FrameHeader & /*header*/) { return false; }
    /// The memory that a payload was received into cannot be written: its owner has freed it. The rest of the payload is dropped.
    virtual void on_unwritable(Lane & /*lane*/, const wire::FrameHeader & /*header*/) {}
    /// The next frame to send, if there is one. The header's checksum of itself is filled in by the lane.
    virtual bool next_frame(Lane &lane, OutFrame &frame) = 0;
    /// The connection is of no more use. The lane does nothing from then on. Never called from within another call.
    virtual void on_lane_down(Lane &lane, const std::string &why) = 0;
};

class Lane : public std::enable_shared_from_this<Lane> {
public:
    /// `round_trip`: of the path, as far as it is known.
    Lane(asio::ip::tcp::socket socket, Duration round_trip, LaneHandler &handler);

    /// Begins to read. Call once.
    void start();
    /// There may be something to send: as much as goes.
    void kick();
    /// The same, but one frame of at most 64 KiB, or a few tiny ones; after a larger one, as much as goes. True: more may go.
    bool kick_once();
    /// After Intake::hold.
    void resume();
    /// No callback comes after this.
    void close();
    void set_handler(LaneHandler &handler) { handler_ = &handler; }
    std::string remote() const { return remote_; }
    Duration round_trip() const { return round_trip_; }
    /// It has more to send than the system takes.
    bool backlogged() const { return waiting_to_write_; }
    /// Both ends are on one machine.
    bool inside_machine() const { return inside_machine_; }
    /// What the payload that is given to on_frame() travelled as; null if as it is.
    const PackedPtr &arrived_packed() const { return arrived_packed_; }
    /// Since when a header waits for resume(), if one does.
    std::optional<Time> held_since() const { return held_since_; }
    /// Its congestion control follows what the path delivers: losses alone do not slow it down.
    bool follows_rate() const { return follows_rate_; }
    /// Written and not acknowledged yet.
    std::uint64_t outstanding_bytes() { return closed_ ? 0 : unacknowledged_bytes(socket_.native_handle()); }
    /// That the other end has, in order or not. Where the system does not tell its health: that it has acknowledged.
    std::uint64_t delivered_bytes(const std::optional<TcpHealth> &health);
    std::uint64_t written_bytes() const { return written_; }
    std::uint64_t read_bytes() const { return read_; }
    std::optional<TcpHealth> health() { return closed_ ? std::nullopt : tcp_health(socket_.native_handle()); }
    Duration stalled() const { return stall_.stalled(); }

    /// Every few hundred milliseconds. Fails if the other end has not acknowledged what is on its way for `limit`: a process that is
    /// stopped still acknowledges, and a receiver that does not read answers questions whether it does.
    void watch(Time now, Duration limit);
    void give_up_after(Duration limit) {
        if (!closed_) peer::give_up_after(socket_.native_handle(), limit);
    }
    void limit_rate(std::uint64_t bytes_per_s) {
        if (!closed_) peer::limit_rate(socket_.native_handle(), bytes_per_s);
    }

    /// Lets go of memory that belongs to `owner`: what is half sent from it is copied, what is half received into it is drained.
    void detach(const void *owner);

private:
    static constexpr std::size_t kStaging = 16 << 10;
    static constexpr std::size_t kBulk = 32 << 10;
    static constexpr std::size_t kDrain = 64 << 10;
    static constexpr std::size_t kReadBudget = 4 << 20;   ///< bytes before other lanes get their turn
    static constexpr std::size_t kGather = 8;             ///< frames in one system call
    static constexpr std::size_t kGatherBytes = 64 << 10; ///< beyond these, no further frame in it
    static constexpr std::size_t kTiny = 1 << 10;

    void wait_readable();
    void wait_writable();
    void read_some();
    bool consume_staging();
    bool check_header();
    bool accept_header();
    void sum_payload();
    bool finish_payload();
    bool unpack_payload(std::byte *into, Buffer packed);
    bool drop_unwritable();
    bool replace_unreadable();
    std::byte *reads_into() const { return packed_ ? packed_.get() : intake_.into; }
    std::size_t write_some(std::size_t gather_bytes);
    void shut();
    void fail(const std::string &why);
    void restart_reading();

    asio::ip::tcp::socket socket_;
    Duration round_trip_;
    LaneHandler *handler_;  ///< null once closed by it
    std::string remote_;
    bool inside_machine_ = false;
    bool follows_rate_ = false;
    bool closed_ = false;

    // What is being received.
    std::unique_ptr<std::byte[]> staging_;
    std::size_t staged_begin_ = 0, staged_end_ = 0;
    wire::FrameHeader header_;  ///< as it came
    wire::FrameHeader plain_;   ///< as if its payload had come plain
    Buffer packed_;             ///< the payload, where it comes compressed
    PackedPtr arrived_packed_;
    bool in_payload_ = false;
    bool held_ = false;
    std::optional<Time> held_since_;  ///< this header
    Intake intake_;
    std::size_t received_ = 0;
    kernel::Checksum checksum_;  ///< of the payload so far
    std::size_t summed_ = 0;     ///< bytes that are in it

    // What is being sent: taken from the handler, not wholly written.
    std::vector<OutFrame> sending_;
    std::size_t sent_of_first_ = 0;
    std::uint64_t written_ = 0, read_ = 0, delivered_ = 0;
    StallWatch stall_;
    std::uint64_t at_rest_ = 0;  ///< written_ when nothing was outstanding
    bool waiting_to_write_ = false;
    bool writing_ = false;  ///< inside write_some
};

}  // namespace pccl::peer
