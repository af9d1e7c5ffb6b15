// Messages between peers. They use the links of the operations, and are independent of operations and views. I/O thread only.
//
// protocol/post.h explains why each message is delivered exactly once or not at all; this file sends and receives its frames. A
// message is sent only after its receiver has reserved room for it, so that a full mailbox delays nothing else on the link. A
// small message is sent with its offer, and sent again if the receiver had no room. Offers that wait for room get it in the order
// in which they arrived.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"
#include "peer/frame_consumer.h"
#include "peer/link_table.h"
#include "peer/post_office.h"
#include "protocol/post.h"

namespace pccl::peer {

class MessageTransfer final : public FrameConsumer {
public:
    MessageTransfer(LinkTable &links, PostOffice &office) : links_(links), office_(office) {}
    ~MessageTransfer() override;

    /// Sends a message. The post office completes it when its outcome is known, or at end().
    void post(PostPtr post);
    /// The members of the group from now on. Posts to other peers end.
    void set_members(const std::vector<PeerId> &members);
    /// The peer has left the run for good, and its link is down.
    void peer_gone(PeerId other);
    /// The membership has ended. The memory of posts is not accessed after this.
    void end(pcclResult_t code, const std::string &why);
    /// A message was taken out of the mailbox.
    void room_made() { grant_waiting(); }

    std::vector<wire::FrameKind> kinds() const override;
    Intake prepare_receive(Link &link, const wire::FrameHeader &header) override;
    /// The payload of an offer or of a chunk.
    bool receive(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    void damaged(Link &link, const wire::FrameHeader &header) override;
    /// Sends a chunk again that arrived damaged. If the program has changed the message since, the message is withdrawn instead.
    void send_again(Link &link, const wire::FrameHeader &sent) override;
    void link_up(Link &link) override;
    void link_down(PeerId other) override;
    void tick(Time now) override;
    void clear(const Error &why) override { end(why.code, why.what); }

private:
    /// Messages to one peer.
    struct Destination final : Producer {
        bool produce(Link &link, OutFrame &frame) override;
        protocol::PostSender state;
        std::deque<PostPtr> posts;  ///< the messages that `state` counts, the oldest first
        std::size_t chunk_bytes = 0;
        bool sending = false;  ///< the oldest message is being sent, and this is a producer of the link
        std::uint32_t next_chunk = 0;
    };
    /// Messages from one peer.
    struct Source {
        protocol::PostReceiver state;
        Message message;  ///< the one that is offered
        std::size_t chunk_bytes = 0;
        bool reserved = false;      ///< the post office has room for it
        std::vector<bool> arrived;  ///< chunks that have begun to arrive
        std::size_t missing = 0;    ///< chunks that have not arrived completely
    };

    void withdraw_spoiled(PeerId to, Destination &destination, const char *what);
    void send_next(PeerId to, Destination &destination);
    void offer(Link &link, Destination &destination);
    void stop_sending(PeerId to, Destination &destination);
    void complete(PeerId to, Destination &destination, std::uint64_t number, pcclResult_t code, const std::string &why);
    void receiver_gone(PeerId to);
    void complete_all(PeerId to, pcclResult_t code, const std::string &why);
    Intake on_end(PeerId from, const wire::FrameHeader &header);
    Intake on_grant(PeerId from, const wire::FrameHeader &header);

    Intake on_offer(Link &link, const wire::FrameHeader &header);
    Intake on_chunk(Link &link, const wire::FrameHeader &header);
    Intake on_withdrawal(Link &link, const wire::FrameHeader &header);
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
    std::deque<PeerId> waiting_;  ///< senders whose offers wait for room
};

}  // namespace pccl::peer
