// Everything between this peer and one other: its lanes and what waits to be sent over them. I/O thread only.
//
// Frames are pulled by lanes with room: first the few urgent ones (openings, answers), then those of producers (operations, probes,
// state transfers) in turn, one frame each, so that many share the link fairly. Any frame may take any lane. When one lane breaks, what
// was on it is unknown, so the link breaks as a whole and is made anew.
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
#include "peer/lane.h"
#include "peer/lane_choice.h"
#include "peer/options.h"
#include "peer/pacer.h"
#include "wire/messages.h"

namespace pccl::peer {

class Link;

/// Something with bulk to send over one link.
class Producer {
public:
    virtual ~Producer() = default;
    /// The next frame; false: nothing now (kick the link when there is).
    virtual bool produce(Link &link, OutFrame &frame) = 0;
    /// The link made the frame that it has just got smaller by so many bytes.
    virtual void sent_smaller(std::size_t /*bytes*/) {}
};

/// Who is told what arrives on a link.
class LinkOwner {
public:
    virtual ~LinkOwner() = default;
    virtual Intake on_link_header(Link &link, const wire::FrameHeader &header) = 0;
    /// As LaneHandler::on_frame.
    virtual bool on_link_frame(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) = 0;
    /// A frame arrived that may_be_asked_again(), with a wrong payload checksum. It is asked for again, and counts as not arrived.
    virtual void on_link_damaged(Link & /*link*/, const wire::FrameHeader & /*header*/) {}
    /// The other end got the frame with this header with a wrong payload checksum.
    virtual void on_link_asked_again(Link & /*link*/, const wire::FrameHeader & /*header*/) {}
    /// As LaneHandler::on_unwritable.
    virtual void on_link_unwritable(Link & /*link*/, const wire::FrameHeader & /*header*/) {}
    virtual void on_link_up(Link &link) = 0;
    virtual void on_link_down(Link &link, const std::string &why) = 0;
};

class Link final : public LaneHandler, public std::enable_shared_from_this<Link> {
public:
    /// `dead_after`: a path on which nothing is acknowledged for so long breaks the link.
    Link(asio::io_context &io, LinkOwner &owner, const wire::OpenLink &how, const wire::LinkHello &hello, const Options &options, Duration dead_after);

    /// The dialling side: connects the first lane, then the others once that is accepted.
    void dial();
    /// The other side: a connection whose hello matched.
    void adopt(std::shared_ptr<Lane> lane);

    PeerId other() const { return hello_.from == self_ ? hello_.to : hello_.from; }
    std::uint32_t attempt() const { return hello_.attempt; }
    bool dials() const { return dials_; }
    bool up() const { return up_; }
    const wire::LinkHello &hello() const { return hello_; }
    std::size_t lanes() const { return lanes_.size(); }
    Duration round_trip() const { return round_trip_; }
    std::uint64_t read_bytes() const;
    /// What the frame that is given to LinkOwner::on_link_frame() travelled as; null if as it is, and at any other time.
    const PackedPtr &arrived_packed() const { return arrived_packed_; }

    /// What is known of its health, for the master.
    wire::LinkProgress progress();

    /// Every few tens of milliseconds.
    void tick(Time now);
    /// A frame that waits for a view that does not come is a lie, if the master could have told of it: it is there since then.
    void check_held(Time now, Time master_there_since);

    void send_urgent(OutFrame frame);
    /// Sends a frame that arrived with a wrong checksum again, from memory that nobody else writes. A path that damages many is given up.
    void send_again(const wire::FrameHeader &header, Buffer payload);
    /// The operation has ended: frames of it that arrived damaged are not awaited, and those that were sent again are not counted on.
    void forget_damaged(const OpId &op) {
        sent_again_ = 0;
        if (!damaged_.empty()) std::erase_if(damaged_, [&](const FrameName &name) { return name.op == op; });
    }
    /// Ends it, from the event loop.
    void give_up(std::string why) { fail_soon(std::move(why)); }
    /// Kick the link when it has something.
    void add_producer(Producer *producer);
    void remove_producer(Producer *producer);
    void kick();
    void resume();
    void detach(const void *owner);
    /// No callback comes after this.
    void close();

    /// The credit for frames of operations that the other side has not posted yet, and the bytes that may be sent so (see
    /// wire::kEagerBytes).
    EagerCredit &eager_credit() { return eager_credit_; }
    std::size_t eager_budget() const;

private:
    Intake on_header(Lane &lane, const wire::FrameHeader &header) override;
    bool on_frame(Lane &lane, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    bool on_damaged(Lane &lane, const wire::FrameHeader &header) override;
    void on_unwritable(Lane &, const wire::FrameHeader &header) override { owner_.on_link_unwritable(*this, header); }
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
    PeerId self_;
    wire::LinkHello hello_;
    SocketAddress address_;
    std::uint32_t lanes_asked_;
    bool dials_;
    const Options &options_;
    Duration dead_after_;
    Time watched_{};
    std::uint32_t looks_ = 0, backlogged_ = 0;
    asio::steady_timer timer_;
    Duration round_trip_{};
    std::optional<Pacer> pacer_;  ///< of a long path
    std::optional<LaneChoice> lane_choice_;  ///< likewise
    Compressor compressor_;
    PackedPtr arrived_packed_;
    std::uint64_t receiver_limited_us_ = 0;  ///< of all lanes, at the last tick

    /// What tells a frame from all others.
    struct FrameName {
        wire::FrameKind kind;
        std::uint16_t hop;
        OpId op;
        std::uint32_t index, aux;
        friend auto operator<=>(const FrameName &, const FrameName &) = default;
    };
    static FrameName name_of(const wire::FrameHeader &header) { return {header.kind, header.hop, header.op(), header.index, header.aux}; }
    std::set<FrameName> damaged_;  ///< frames that arrived with a wrong checksum and were asked for again
    std::size_t sent_again_ = 0;

    EagerCredit eager_credit_;
    bool up_ = false;
    bool closed_ = false;
    /// What a lane of a long path achieves beside the others.
    struct Pace {
        std::uint64_t delivered = 0, outstanding = 0;  ///< bytes, at the last tick
        std::uint64_t at_last = 0;                     ///< delivered when lanes were last compared
        bool busy = false;                                ///< something was outstanding then
        double bytes_per_s = 0;          ///< while something was
        bool lags = false;
        bool rests = false;              ///< there are enough without it
    };
    void compare_lanes(Time now);
    void choose_lanes(const LaneChoice::Work &work);
    bool holds_back(Lane &lane);

    std::vector<std::shared_ptr<Lane>> lanes_;                           ///< in use
    std::map<const Lane *, Pace> paces_;
    Time compared_{};
    bool resting_ = true;  ///< nothing was on its way at the last tick
    std::vector<std::shared_ptr<Lane>> greeting_;                        ///< dialled, not accepted yet
    std::vector<const Lane *> greeting_due_;                             ///< their first frame, hello or accept, is to be sent
    std::deque<OutFrame> urgent_;
    std::size_t urgent_bytes_ = 0;
    std::vector<Producer *> producers_;
    std::size_t next_producer_ = 0;
    std::size_t next_lane_ = 0;
};

/// A frame whose small payload it carries itself.
OutFrame small_frame(wire::FrameHeader header, const wire::Bytes &payload);

}  // namespace pccl::peer
