// Messages between peers over their links, beside the operations and across views. I/O thread only.
//
// protocol/post.h says why each is delivered exactly once or not at all; here its frames are made and taken. A message flows only once its
// receiver has made room for it, so that a full mailbox holds up nothing else on the link; a small one goes with its offer, and again
// if there was no room. Offers that wait for room get it in the order in which they came.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"
#include "peer/link_table.h"
#include "peer/post_office.h"
#include "protocol/post.h"

namespace pccl::peer {

class Exchange {
public:
    Exchange(LinkTable &links, PostOffice &office) : links_(links), office_(office) {}
    ~Exchange();

    /// Settled when its outcome is known, or end() comes.
    void post(PostPtr post);
    /// The group's members from now on. Posts to others end.
    void set_members(const std::vector<PeerId> &members);
    void link_up(Link &link);
    /// That there was, if there was one. It does nothing any more.
    void link_down(PeerId other);
    /// It is out of the run for good; its link is down.
    void peer_gone(PeerId other);
    /// The membership is over: nothing of a post's memory is touched after it.
    void end(pcclResult_t code, const std::string &why);
    /// A message was taken out of the mailbox.
    void room_made() { grant_waiting(); }
    /// Every few tens of milliseconds.
    void tick(Time now);

    static bool handles(wire::FrameKind kind) { return kind >= wire::FrameKind::post_offer && kind <= wire::FrameKind::post_withdraw; }
    Intake intake(Link &link, const wire::FrameHeader &header);
    void receive(Link &link, const wire::FrameHeader &header);
    /// A chunk arrived with a wrong checksum, and is asked for again.
    void damaged(Link &link, const wire::FrameHeader &header);
    /// The other end got this chunk damaged. If the message is what it was, the chunk goes out again; else the message is withdrawn.
    void send_again(Link &link, const wire::FrameHeader &sent);

private:
    /// Messages to one peer.
    struct Destination final : Producer {
        bool produce(Link &link, OutFrame &frame) override;
        protocol::PostSender state;
        std::deque<PostPtr> posts;  ///< as in `state`
        std::size_t chunk_bytes = 0;
        bool sending = false;  ///< the head: a producer of its link
        std::uint32_t next_chunk = 0;
    };
    /// Messages from one peer.
    struct Source {
        protocol::PostReceiver state;
        Message message;               ///< offered
        std::size_t chunk_bytes = 0;
        bool reserved = false;         ///< room for it
        std::vector<bool> arrived;     ///< chunks that have begun to
        std::size_t missing = 0;       ///< chunks that are not here whole
    };

    void spoil(PeerId to, Destination &destination, const char *what);
    void speak(PeerId to, Destination &destination);
    void offer(Link &link, Destination &destination);
    void stop_sending(PeerId to, Destination &destination);
    void settle(PeerId to, Destination &destination, std::uint64_t number, pcclResult_t code, const std::string &why);
    void receiver_gone(PeerId to);
    void settle_all(PeerId to, pcclResult_t code, const std::string &why);
    Intake heard_end(PeerId from, const wire::FrameHeader &header);
    Intake heard_grant(PeerId from, const wire::FrameHeader &header);

    Intake take_offer(Link &link, const wire::FrameHeader &header);
    Intake take_chunk(Link &link, const wire::FrameHeader &header);
    Intake take_withdrawal(Link &link, const wire::FrameHeader &header);
    bool make_room(Source &source);
    void grant_waiting();
    void finish(Link &link, Source &source, protocol::PostEnd how);
    void forget_message(Source &source);
    void deliver(Link &link, Source &source);

    LinkTable &links_;
    PostOffice &office_;
    std::set<PeerId> members_;
    std::map<PeerId, std::unique_ptr<Destination>> destinations_;
    std::map<PeerId, Source> sources_;
    std::deque<PeerId> waiting_;  ///< whose offers wait for room
};

}  // namespace pccl::peer
