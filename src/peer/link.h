// The link between this peer and one other: its lanes, and the frames that wait to be sent over them. I/O thread only.
//
// A lane that can send pulls the next frame: first the few urgent ones (openings, replies), then one frame of each producer
// (operation, probe, state transfer) in turn, so that they share the link fairly. Any frame may take any lane. When one lane
// breaks, it is unknown which of its frames arrived, so the whole link breaks, and the master has a new one made.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>

#include "base/ids.h"
#include "base/time.h"
#include "peer/compressor.h"
#include "peer/eager_credit.h"
#include "peer/frame_consumer.h"
#include "peer/lane.h"
#include "peer/lane_choice.h"
#include "peer/options.h"
#include "peer/pacer.h"
#include "wire/messages.h"

namespace pccl::peer {

class Link;

/// A source of bulk data to send over one link.
class Producer {
public:
    virtual ~Producer() = default;
    /// Makes the next frame. False: there is none at present; call Link::kick() when there is.
    virtual bool produce(Link &link, OutFrame &frame) = 0;
    /// The link has compressed the frame that produce() just made, and saved this many bytes.
    virtual void sent_smaller(std::size_t /*bytes*/) {}
};

/// Learns when links come up and go down.
class LinkOwner {
public:
    virtual ~LinkOwner() = default;
    virtual void on_link_up(Link &link) = 0;
    virtual void on_link_down(Link &link, const std::string &why) = 0;
};

class Link final : public LaneHandler, public std::enable_shared_from_this<Link> {
public:
    /// `consumers`: receive the frames that arrive. `dead_after`: the link breaks when nothing is acknowledged for that long.
    Link(asio::io_context &io, LinkOwner &owner, const FrameConsumers &consumers, const wire::OpenLink &how,
         const wire::LinkHello &hello, const Options &options, Duration dead_after);

    /// On the dialling side: connects the first lane, and the others after the first was accepted.
    void dial();
    /// On the accepting side: adds a connection whose hello matched.
    void adopt(std::shared_ptr<Lane> lane);

    PeerId other() const { return hello_.from == self_ ? hello_.to : hello_.from; }
    std::uint32_t attempt() const { return hello_.attempt; }
    bool dials() const { return dials_; }
    bool up() const { return up_; }
    const wire::LinkHello &hello() const { return hello_; }
    std::size_t lanes() const { return lanes_.size(); }
    Duration round_trip() const { return round_trip_; }
    std::uint64_t read_bytes() const;
    /// During FrameConsumer::receive(): the compressed form in which the frame arrived. Null if it arrived plain, and at any
    /// other time.
    const PackedPtr &arrived_packed() const { return arrived_packed_; }

    /// The state of the link, for the master's diagnosis.
    wire::LinkProgress progress();

    /// Called every 25 milliseconds.
    void tick(Time now);
    /// Fails the link if a frame of a future view has waited for more than 30 s. Time without a master does not count:
    /// `master_up_since` is when the control connection came up.
    void check_held(Time now, Time master_up_since);

    void send_urgent(OutFrame frame);
    /// Sends a frame again that arrived with a wrong checksum. Only the library may write to `payload`. After kMaxSentAgain such
    /// frames the link fails.
    void send_again(const wire::FrameHeader &header, Buffer payload);
    /// The operation has ended: its damaged frames are no longer expected, and the count of frames sent again restarts at 0.
    void forget_damaged(const OpId &op) {
        sent_again_ = 0;
        if (!damaged_.empty()) std::erase_if(damaged_, [&](const FrameName &name) { return name.op == op; });
    }
    /// Fails the link, from the event loop.
    void give_up(std::string why) { fail_soon(std::move(why)); }
    /// Call kick() when the producer has a frame.
    void add_producer(Producer *producer);
    void remove_producer(Producer *producer);
    void kick();
    void resume();
    void detach(const void *owner);
    /// There are no callbacks after this.
    void close();

    /// The credit for frames of operations that the other side has not posted yet, and the bytes that may be sent so (see
    /// wire::kEagerBytes).
    EagerCredit &eager_credit() { return eager_credit_; }
    std::size_t eager_budget() const;

private:
    Intake on_header(Lane &lane, const wire::FrameHeader &header) override;
    bool on_frame(Lane &lane, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    bool on_damaged(Lane &lane, const wire::FrameHeader &header) override;
    void on_unwritable(Lane &, const wire::FrameHeader &header) override { consumers_.of(header.kind)->unwritable(header); }
    bool next_frame(Lane &lane, OutFrame &frame) override;
    void on_lane_down(Lane &lane, const std::string &why) override;

    void on_asked_again(const std::byte *payload);

    void dial_lane();
    std::string advice() const;
    void dialled(std::shared_ptr<Lane> lane);
    void on_accept(Lane &lane);
    void fail(const std::string &why);
    void fail_soon(std::string why);
    std::size_t wanted_lanes() const;
    void watch(Time now);
    void tune(Time now);
    void judge_compression(Time now);
    void came_up(const Lane &lane);

    asio::io_context &io_;
    LinkOwner &owner_;
    const FrameConsumers &consumers_;
    PeerId self_;
    wire::LinkHello hello_;
    SocketAddress address_;
    std::uint32_t lanes_asked_;
    bool dials_;
    const Options &options_;
    Duration dead_after_;
    Time watched_{};
    std::uint32_t looks_ = 0, backlogged_ = 0;  ///< ticks with something to send; those of them in which a lane was backlogged
    asio::steady_timer timer_;
    Duration round_trip_{};
    std::optional<Pacer> pacer_;             ///< set on a long path
    std::optional<LaneChoice> lane_choice_;  ///< set on a long path
    Compressor compressor_;
    PackedPtr arrived_packed_;
    std::uint64_t receiver_limited_us_ = 0;  ///< sum over all lanes at the last tick

    /// Identifies a frame.
    struct FrameName {
        wire::FrameKind kind;
        std::uint16_t hop;
        OpId op;
        std::uint32_t index, aux;
        friend auto operator<=>(const FrameName &, const FrameName &) = default;
    };
    static FrameName name_of(const wire::FrameHeader &header) {
        return {header.kind, header.hop, header.op(), header.index, header.aux};
    }
    std::set<FrameName> damaged_;  ///< frames that arrived with a wrong checksum and were requested again
    std::size_t sent_again_ = 0;

    EagerCredit eager_credit_;
    bool up_ = false;
    bool closed_ = false;
    /// The throughput of one lane of a long path.
    struct Pace {
        std::uint64_t delivered = 0, outstanding = 0;  ///< bytes, at the last tick
        std::uint64_t at_last = 0;                     ///< `delivered` when lanes were last compared
        bool busy = false;                             ///< bytes were outstanding then
        double bytes_per_s = 0;                        ///< measured while bytes were outstanding
        bool lags = false;                             ///< much slower than the mean lane
        bool rests = false;                            ///< not used: the other lanes are enough
    };
    void compare_lanes(Time now);
    void choose_lanes(const LaneChoice::Work &work);
    bool holds_back(Lane &lane);

    std::vector<std::shared_ptr<Lane>> lanes_;  ///< in use
    std::map<const Lane *, Pace> paces_;
    Time compared_{};
    bool resting_ = true;                          ///< no bytes were outstanding at the last tick
    std::vector<std::shared_ptr<Lane>> greeting_;  ///< dialled, not accepted yet
    std::vector<const Lane *> greeting_due_;       ///< lanes whose first frame, a hello or an accept, is not sent yet
    std::deque<OutFrame> urgent_;
    std::size_t urgent_bytes_ = 0;
    std::vector<Producer *> producers_;
    std::size_t next_producer_ = 0;
    std::size_t next_lane_ = 0;
};

/// Makes a frame that owns a copy of its payload.
OutFrame small_frame(wire::FrameHeader header, const wire::Bytes &payload);

}  // namespace pccl::peer
