// One connection of a link, which receives and sends frames. I/O thread only.
//
// A lane reads until the stream would block, and only then waits for the socket. While a payload is read, the bytes behind it go
// to a small staging buffer in the same system call, so that the next header needs no system call of its own. A lane pulls the
// next frame to send from its handler when the socket has room: a slow lane takes fewer frames, and does not delay the other
// lanes.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <asio/ip/tcp.hpp>

#include "base/stream.h"
#include "base/time.h"
#include "kernel/hash.h"
#include "peer/packed.h"
#include "peer/stall_watch.h"
#include "peer/tcp_health.h"
#include "peer/tcp_tuning.h"
#include "wire/frame.h"

namespace pccl::peer {

/// A frame to send. `keep` keeps `payload` alive, or `owner` does, and calls detach() before it frees the memory.
struct OutFrame {
    wire::FrameHeader header;
    const std::byte *payload = nullptr;
    Buffer keep;
    const void *owner = nullptr;  ///< for detach(); null if `keep` holds the payload
    std::uint8_t planes = 0;      ///< element size of the payload, if the link may compress it; 0: it may not
    PackedPtr packed;             ///< compressed form, shared by all frames with the same payload; null: not shared
};

class Lane;

/// Where a lane puts the payload of a frame whose header has arrived.
struct Intake {
    enum class Action { take, drain, hold, reject } action = Action::drain;
    std::byte *into = nullptr;    ///< take: header.bytes of room
    Buffer keep;                  ///< keeps `into` alive if set
    const void *owner = nullptr;  ///< for detach()
    std::string why;              ///< reject
    bool taker_checks = false;    ///< take: on_frame() verifies the checksum, while it processes the payload

    /// Receives the payload into a buffer of the library.
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
    /// A header with a correct checksum arrived. If the payload travels compressed, `bytes` is its plain length. After `hold`,
    /// the lane reads nothing until resume(), and then calls this again.
    virtual Intake on_header(Lane &lane, const wire::FrameHeader &header) = 0;
    /// A payload was received completely, and decompressed. Its checksum is correct, or it is verified here if
    /// Intake::taker_checks is set. False: the checksum is wrong; on_damaged() follows.
    virtual bool on_frame(Lane &lane, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) = 0;
    /// The payload of a frame has a wrong checksum. `header` describes the plain payload.
    /// True: the handler has requested the frame again, and the lane continues. False: the lane fails.
    virtual bool on_damaged(Lane & /*lane*/, const wire::FrameHeader & /*header*/) { return false; }
    /// The memory that a payload is received into is not writable, because its owner has freed it. The rest of the payload is
    /// drained.
    virtual void on_unwritable(Lane & /*lane*/, const wire::FrameHeader & /*header*/) {}
    /// Makes the next frame to send. The lane fills in the checksum of the header. False: there is none.
    virtual bool next_frame(Lane &lane, OutFrame &frame) = 0;
    /// The connection has failed, and the lane does nothing more. Always called from the event loop.
    virtual void on_lane_down(Lane &lane, const std::string &why) = 0;
};

class Lane : public std::enable_shared_from_this<Lane> {
public:
    /// `round_trip`: the round trip of the path; 0 if unknown.
    Lane(asio::ip::tcp::socket socket, Duration round_trip, LaneHandler &handler);

    /// Starts reading. Call once.
    void start();
    /// Sends frames until the socket is full or there are no more.
    void kick();
    /// Sends one frame of at most 64 KiB, or a few tiny ones. After a larger frame, it continues as kick() does. True: more can
    /// be sent.
    bool kick_once();
    /// Continues after Intake::hold.
    void resume();
    /// There are no callbacks after this.
    void close();
    void set_handler(LaneHandler &handler) { handler_ = &handler; }
    std::string remote() const { return remote_; }
    Duration round_trip() const { return round_trip_; }
    /// True if the socket is full and there is more to send.
    bool backlogged() const { return waiting_to_write_; }
    /// True if both ends are on one machine.
    bool inside_machine() const { return inside_machine_; }
    /// During on_frame(): the compressed form in which the payload arrived; null if it arrived plain.
    const PackedPtr &arrived_packed() const { return arrived_packed_; }
    /// When a header began to wait for resume(); empty if none waits.
    std::optional<Time> held_since() const { return held_since_; }
    /// True if the congestion control follows the delivery rate: losses alone do not slow it down.
    bool follows_rate() const { return follows_rate_; }
    /// Bytes that were written and are not acknowledged yet.
    std::uint64_t outstanding_bytes() { return closed_ ? 0 : unacknowledged_bytes(socket_.native_handle()); }
    /// Bytes that the other end has received, in order or not. If the system does not report a health: bytes that it has
    /// acknowledged.
    std::uint64_t delivered_bytes(const std::optional<TcpHealth> &health);
    std::uint64_t written_bytes() const { return written_; }
    std::uint64_t read_bytes() const { return read_; }
    std::optional<TcpHealth> health() { return closed_ ? std::nullopt : tcp_health(socket_.native_handle()); }
    Duration stalled() const { return stall_.stalled(); }

    /// Called every 250 milliseconds. The lane fails if outstanding bytes were not acknowledged for `limit`. A stopped process
    /// does not count as silent: its kernel still acknowledges. The kernel of a receiver that does not read answers window
    /// probes.
    void watch(Time now, Duration limit);
    void give_up_after(Duration limit) {
        if (!closed_) peer::give_up_after(socket_.native_handle(), limit);
    }
    void limit_rate(std::uint64_t bytes_per_s) {
        if (!closed_) peer::limit_rate(socket_.native_handle(), bytes_per_s);
    }

    /// Stops using memory that belongs to `owner`: a partly sent payload is copied, and a partly received one is drained.
    void detach(const void *owner);

private:
    static constexpr std::size_t kStaging = 16 << 10;
    static constexpr std::size_t kBulk = 32 << 10;
    static constexpr std::size_t kDrain = 64 << 10;
    static constexpr std::size_t kReadBudget = 4 << 20;    ///< bytes read before other lanes have their turn
    static constexpr std::size_t kGather = 8;              ///< frames per system call
    static constexpr std::size_t kGatherBytes = 64 << 10;  ///< bytes beyond which no further frame is added to a system call
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
    Stream stream_;  ///< over `socket_`
    Duration round_trip_;
    LaneHandler *handler_;  ///< null after close()
    std::string remote_;
    bool inside_machine_ = false;
    bool follows_rate_ = false;
    bool closed_ = false;

    // The frame that is being received.
    std::unique_ptr<std::byte[]> staging_;
    std::size_t staged_begin_ = 0, staged_end_ = 0;
    wire::FrameHeader header_;  ///< as received
    wire::FrameHeader plain_;   ///< describes the plain payload
    Buffer packed_;             ///< the payload, if it travels compressed
    PackedPtr arrived_packed_;
    bool in_payload_ = false;
    bool held_ = false;
    std::optional<Time> held_since_;
    Intake intake_;
    std::size_t received_ = 0;
    kernel::Checksum checksum_;  ///< of the first `summed_` bytes of the payload
    std::size_t summed_ = 0;

    // Frames that were taken from the handler and are not completely written.
    std::vector<OutFrame> sending_;
    std::size_t sent_of_first_ = 0;
    std::uint64_t written_ = 0, read_ = 0, delivered_ = 0;
    StallWatch stall_;
    std::uint64_t at_rest_ = 0;  ///< `written_` when no bytes were outstanding
    bool waiting_to_write_ = false;
    bool writing_ = false;  ///< inside write_some
};

}  // namespace pccl::peer
