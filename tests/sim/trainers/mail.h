// The messages of one simulated peer over the modelled links. It takes the place of peer::Exchange in a process.
//
// The library's own rule (protocol/post.h) decides the outcome of a message, and its own post office stores messages and
// completes posts. The frames are modelled: an offer (with the content of a small message), a grant of room, parts, a withdrawal,
// an end. Frames overtake one another, and frames in flight are lost with their link. Runs in the turns of the simulation and of
// the peer's threads.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "peer/post_office.h"
#include "protocol/post.h"
#include "sim/cluster.h"
#include "wire/limits.h"

namespace pccl::sim {

class Mail {
public:
    /// Observes the outcomes of messages.
    class Witness {
    public:
        virtual ~Witness() = default;
        /// A frame has arrived at the node.
        virtual void on_frame(const Node &, std::size_t /*kind*/) {}
        /// The sender has changed a posted buffer before it got the outcome.
        virtual void on_changed_post(const Node &) {}
        /// A message or an outcome that callers wait for may have arrived.
        virtual void on_news(const Node &) {}
    };
    using MailOf = std::function<Mail &(const Node &)>;

    /// `mail_of` finds the Mail of other peers.
    Mail(Cluster &cluster, Node &node, MailOf mail_of, Witness &witness)
        : cluster_(cluster), node_(node), mail_of_(std::move(mail_of)), witness_(witness) {}

    /// Larger messages are sent after a grant of room.
    std::size_t inline_bytes = wire::kMaxInlineMessage;

    // ---- callers
    peer::PostPtr post(PeerId to, Tag tag, const std::byte *data, std::size_t bytes, std::optional<Time> deadline);
    peer::PostOffice &office() { return office_; }
    /// A message was taken out of the mailbox, or its limits have changed.
    void room_made();
    const std::set<PeerId> &members() const { return members_; }
    const wire::Neighbours &neighbours() const { return neighbours_; }

    // ---- events at the node's process
    void on_effect(const protocol::PeerEffect &effect);
    void on_told(const wire::ToPeer &message);
    void on_link(PeerId other, bool up);

private:
    enum class Kind { offer, room, part, withdrawal, end };
    using Content = std::shared_ptr<const std::vector<std::byte>>;
    struct Frame {
        Kind kind = Kind::offer;
        std::uint64_t number = 0;
        Tag tag{};
        std::size_t bytes = 0;      ///< size of the whole message
        Content content = nullptr;  ///< the whole content; set in the offer of a small message and in each part
        std::size_t part = 0;
        protocol::PostEnd how{};
    };
    struct Outgoing {
        peer::PostPtr post;
        Content content;  ///< the content at the time of the post
    };
    struct Destination {
        protocol::PostSender state;
        std::deque<Outgoing> posts;  ///< in the order of `state`
        std::uint64_t transfer = 0;  ///< number of the first post's transfer on this link; 0: none
    };
    struct Source {
        protocol::PostReceiver state;
        Frame offer;
        bool reserved = false;        ///< room is reserved for it
        std::set<std::size_t> parts;  ///< parts that have arrived
    };

    void say(PeerId to, Frame frame);
    void hear(PeerId from, const Frame &frame);
    void speak(PeerId to);
    void send_part(PeerId to, std::uint64_t transfer, std::size_t part);
    void settle(PeerId to, std::uint64_t number, pcclResult_t code, const std::string &why);
    void receiver_gone(PeerId to);
    void settle_all(PeerId to, pcclResult_t code, const std::string &why);
    void hear_room(PeerId from, const Frame &frame);
    void hear_end(PeerId from, const Frame &frame);
    void begin(const Outgoing &message);
    void withdraw(const peer::PostPtr &post);

    void take_offer(PeerId from, const Frame &frame);
    void take_part(PeerId from, const Frame &frame);
    void take_withdrawal(PeerId from, const Frame &frame);
    bool make_room(PeerId from, Source &source);
    void grant_waiting();
    void forget_message(PeerId from, Source &source);
    void deliver(PeerId from, Source &source, const Content &content);
    void finish(PeerId from, Source &source, protocol::PostEnd how);

    void set_members(const std::vector<PeerId> &members);
    void link_down(PeerId other);
    void peer_gone(PeerId other);
    void end(pcclResult_t code, const std::string &why);

    Cluster &cluster_;
    Node &node_;
    const MailOf mail_of_;
    Witness &witness_;
    peer::PostOffice office_;
    std::set<PeerId> members_;
    wire::Neighbours neighbours_;
    std::map<PeerId, Destination> destinations_;
    std::map<PeerId, Source> sources_;
    std::deque<PeerId> waiting_;  ///< peers whose offers wait for room
    std::uint64_t transfers_ = 0;
};

}  // namespace pccl::sim
