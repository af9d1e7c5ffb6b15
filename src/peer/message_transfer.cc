// See message_transfer.h.
#include "peer/message_transfer.h"

#include <algorithm>
#include <new>
#include <utility>

#include "kernel/hash.h"
#include "peer/careful_copy.h"
#include "peer/tcp_tuning.h"

namespace pccl::peer {

using protocol::PostEnd;
using protocol::PostSender;
using protocol::PostVerdict;
using wire::FrameHeader;
using wire::FrameKind;

namespace {

constexpr std::size_t kChunkBytes = std::size_t{256} << 10;
constexpr std::size_t kLongPathChunkBytes = std::size_t{64}
                                            << 10;  ///< small, so that all lanes of a link finish at about the same time

std::size_t chunks(std::size_t bytes, std::size_t chunk_bytes) { return bytes / chunk_bytes + (bytes % chunk_bytes != 0); }

FrameHeader header_of(FrameKind kind, std::uint64_t number) {
    FrameHeader header;
    header.kind = kind;
    header.epoch = number;
    return header;
}

/// The element size that compression assumes. Models are sent as float32; other data compresses less with it.
std::uint8_t planes_of(const Post &post) { return post.bytes % 4 == 0 ? 4 : 1; }

void send_control(Link &link, FrameHeader header) { link.send_urgent(small_frame(header, {})); }

void send_end(Link &link, std::uint64_t number, PostEnd how) {
    FrameHeader header = header_of(FrameKind::post_end, number);
    header.aux = static_cast<std::uint32_t>(how);
    send_control(link, header);
}

}  // namespace

MessageTransfer::~MessageTransfer() { end(pcclRankConnectionLost, "this peer left the run"); }

// ------------------------------------------------------------------------------------------------------------------ sending --

void MessageTransfer::post(PostPtr post) {
    const PeerId to = post->to;
    if (!members_.contains(to)) {
        return office_.complete(*post, pcclRankConnectionLost,
                                "cannot send a message: " + (members_.empty() ? "this peer" : to_string(to)) +
                                    " has left the run");
    }
    auto &entry = destinations_[to];
    if (!entry) {
        entry = std::make_unique<Destination>();
        if (links_.up(to)) entry->state.link_up();
    }
    entry->posts.push_back(post);
    post->number = entry->state.add();
    send_next(to, *entry);
}

/// Sends the next frame that the oldest message needs.
void MessageTransfer::send_next(PeerId to, Destination &destination) {
    Link *link = links_.up(to);
    if (!link) return;
    switch (destination.state.next()) {
    case PostSender::Action::nothing: return;
    case PostSender::Action::offer: return offer(*link, destination);
    case PostSender::Action::withdraw:
        stop_sending(to, destination);
        return send_control(*link, header_of(FrameKind::post_withdraw, destination.state.head()));
    }
}

void MessageTransfer::offer(Link &link, Destination &destination) {
    const Post &post = *destination.posts.front();
    const std::size_t least = link.round_trip() < kLongPath ? kChunkBytes : kLongPathChunkBytes;
    destination.next_chunk = 0;
    destination.chunk_bytes =
        std::min<std::size_t>(wire::kMaxChunkBytes, std::max<std::size_t>(least, post.bytes / wire::kMaxMessageChunks + 1));
    FrameHeader header = header_of(FrameKind::post_offer, post.number);
    header.tag = post.tag.value;
    header.offset = post.bytes;
    header.aux = static_cast<std::uint32_t>(destination.chunk_bytes);
    if (post.bytes > wire::kMaxInlineMessage) return send_control(link, header);
    destination.state.handed_over();
    link.send_urgent(small_frame(header, wire::Bytes(post.data, post.data + post.bytes)));
}

bool MessageTransfer::Destination::produce(Link &, OutFrame &frame) {
    if (!sending) return false;
    const Post &post = *posts.front();
    const std::size_t begin = next_chunk * chunk_bytes;
    frame.header = header_of(FrameKind::post_chunk, post.number);
    frame.header.tag = post.tag.value;
    frame.header.aux = next_chunk++;
    frame.header.bytes = static_cast<std::uint32_t>(std::min(chunk_bytes, post.bytes - begin));
    frame.payload = post.data + begin;
    frame.header.checksum = kernel::checksum(frame.payload, frame.header.bytes);
    frame.keep.reset();
    frame.packed.reset();
    frame.owner = &post;
    frame.planes = planes_of(post);
    if (begin + frame.header.bytes == post.bytes) {
        sending = false;
        state.handed_over();
    }
    return true;
}

void MessageTransfer::send_again(Link &link, const FrameHeader &sent) {
    const auto found = destinations_.find(link.other());
    if (found == destinations_.end()) return;
    Destination &destination = *found->second;
    if (destination.posts.empty() || destination.posts.front()->number != sent.message()) return;  // the message has ended
    const Post &post = *destination.posts.front();
    if (!post.spoiled.empty()) return;
    const std::size_t begin = sent.chunk() * destination.chunk_bytes;
    if (sent.chunk() >= destination.next_chunk || sent.bytes != std::min(destination.chunk_bytes, post.bytes - begin))
        return link.give_up("it requests a message chunk again that was not sent to it");
    const Buffer copy(new std::byte[sent.bytes]);
    if (!copy_carefully(copy.get(), post.data + begin, sent.bytes)) return withdraw_spoiled(link.other(), destination, "freed");
    if (kernel::checksum(copy.get(), sent.bytes) != sent.checksum) return withdraw_spoiled(link.other(), destination, "modified");
    link.send_again(sent, copy);
}

void MessageTransfer::withdraw_spoiled(PeerId to, Destination &destination, const char *what) {
    Post &post = *destination.posts.front();
    post.spoiled = "the message to " + to_string(to) + " was " + what +
                   " while it was sent. Do not change its memory until the call has returned";
    if (destination.state.withdraw(post.number)) complete(to, destination, post.number, pcclInvalidUsage, post.spoiled);
    send_next(to, destination);
}

/// The memory of the oldest message is not read after this.
void MessageTransfer::stop_sending(PeerId to, Destination &destination) {
    destination.sending = false;
    if (Link *link = links_.up(to)) {
        link->remove_producer(&destination);
        link->detach(destination.posts.front().get());
    }
}

void MessageTransfer::complete(PeerId to, Destination &destination, std::uint64_t number, pcclResult_t code,
                               const std::string &why) {
    const auto found = std::ranges::find(destination.posts, number, [](const PostPtr &post) { return post->number; });
    if (found == destination.posts.end()) return;
    if (found == destination.posts.begin()) stop_sending(to, destination);
    const PostPtr post = *found;
    destination.posts.erase(found);
    if (post->spoiled.empty())
        office_.complete(*post, code, why);
    else
        office_.complete(*post, pcclInvalidUsage, post->spoiled);
}

void MessageTransfer::complete_all(PeerId to, pcclResult_t code, const std::string &why) {
    const auto found = destinations_.find(to);
    if (found == destinations_.end()) return;
    auto &posts = found->second->posts;
    while (!posts.empty())
        complete(to, *found->second, posts.front()->number, code, why);
    destinations_.erase(found);
}

/// A message that the peer may have received counts as delivered, because the peer may have acted on it.
void MessageTransfer::receiver_gone(PeerId to) {
    const auto found = destinations_.find(to);
    if (found == destinations_.end()) return;
    Destination &destination = *found->second;
    if (destination.state.may_be_delivered()) complete(to, destination, destination.state.head(), pcclSuccess, "");
    complete_all(to, pcclRankConnectionLost, to_string(to) + " has left the run");
}

Intake MessageTransfer::on_grant(PeerId from, const FrameHeader &header) {
    const auto found = destinations_.find(from);
    const PostVerdict heard =
        found == destinations_.end() ? PostVerdict::invalid : found->second->state.granted(header.message());
    if (heard == PostVerdict::invalid) return Intake::reject("a grant for a message that was not offered");
    if (heard != PostVerdict::fresh) return {};
    Destination &destination = *found->second;
    destination.sending = destination.posts.front()->bytes > 0;
    destination.next_chunk = 0;
    if (Link *link = links_.up(from); link && destination.sending) {
        link->add_producer(&destination);
        link->kick();
    }
    return {};
}

Intake MessageTransfer::on_end(PeerId from, const FrameHeader &header) {
    const auto found = destinations_.find(from);
    if (header.aux >= protocol::kPostEnds || found == destinations_.end())
        return Intake::reject("an end of a message that does not exist");
    const auto how = static_cast<PostEnd>(header.aux);
    Destination &destination = *found->second;
    const PostVerdict heard = destination.state.ended(header.message(), how);
    if (heard == PostVerdict::invalid) return Intake::reject("an end that is impossible for its message");
    if (heard != PostVerdict::fresh) return {};
    const std::string to = to_string(from);
    switch (how) {
    case PostEnd::delivered: complete(from, destination, header.message(), pcclSuccess, ""); break;
    case PostEnd::withdrawn:
        complete(from, destination, header.message(), pcclRankConnectionFailed,
                 to + " did not accept the message in time: its mailbox is full, or the path to it is slow");
        break;
    case PostEnd::too_large:
        complete(from, destination, header.message(), pcclInvalidArgument,
                 "the message is larger than the mailbox of " + to + " (pcclSetMailbox)");
        break;
    case PostEnd::no_memory:
        complete(from, destination, header.message(), pcclRankConnectionFailed, to + " is out of memory for the message");
        break;
    }
    send_next(from, destination);
    return {};
}

// ---------------------------------------------------------------------------------------------------------------- receiving --

Intake MessageTransfer::on_offer(Link &link, const FrameHeader &header) {
    const bool whole = header.bytes == header.message_bytes();
    if ((header.bytes > 0 && !whole) || header.bytes > wire::kMaxInlineMessage)
        return Intake::reject("an offer with a payload of the wrong length");
    if (header.aux < wire::kMinMessageChunk || header.aux > wire::kMaxChunkBytes ||
        header.message_bytes() / header.aux >= wire::kMaxMessageChunks) {
        return Intake::reject("an offer of a message in too many chunks");
    }
    Source &source = sources_[link.other()];
    switch (source.state.offered(header.message())) {
    case PostVerdict::invalid: return Intake::reject("an offer of a message before the last one ended");
    case PostVerdict::stale: return {};
    case PostVerdict::repeat: send_end(link, header.message(), source.state.last_end()); return {};
    case PostVerdict::fresh: break;
    }
    source.message = {link.other(), Tag{header.tag}, header.message(), nullptr, header.message_bytes()};
    source.chunk_bytes = header.aux;
    if (whole && waiting_.empty() && make_room(source)) {
        source.missing = 1;
        if (header.bytes > 0) return Intake::take(source.message.data);
        return {Intake::Action::take, nullptr, nullptr, nullptr, ""};
    }
    if (!source.state.open()) return {};
    waiting_.push_back(link.other());
    grant_waiting();
    return {};
}

/// False: there is no room now, or there never will be and the message has ended.
bool MessageTransfer::make_room(Source &source) {
    const std::size_t bytes = source.message.bytes;
    const auto room = office_.reserve(bytes);
    if (room == PostOffice::Room::later) return false;
    Link *link = links_.up(source.message.from);
    if (room == PostOffice::Room::never) {
        finish(*link, source, PostEnd::too_large);
        return false;
    }
    source.reserved = true;
    source.message.data = Buffer(new (std::nothrow) std::byte[bytes]);
    if (source.message.data) return true;
    finish(*link, source, PostEnd::no_memory);
    return false;
}

void MessageTransfer::grant_waiting() {
    while (!waiting_.empty()) {
        const PeerId from = waiting_.front();
        Source &source = sources_.at(from);
        const bool room = make_room(source);
        if (!room && source.state.open()) return;
        std::erase(waiting_, from);
        if (!room) continue;
        source.missing = chunks(source.message.bytes, source.chunk_bytes);
        source.arrived.assign(source.missing, false);
        source.state.granted();
        Link &link = *links_.up(from);
        if (source.missing == 0)
            deliver(link, source);  // an empty message is complete
        else
            send_control(link, header_of(FrameKind::post_grant, source.message.number));
    }
}

Intake MessageTransfer::on_chunk(Link &link, const FrameHeader &header) {
    Source &source = sources_[link.other()];
    switch (source.state.part(header.message())) {
    case PostVerdict::fresh: break;
    case PostVerdict::invalid: return Intake::reject("a message chunk without a grant");
    default: return {};
    }
    if (header.chunk() >= source.arrived.size()) return Intake::reject("a message chunk that does not exist");
    const std::size_t begin = header.chunk() * source.chunk_bytes;
    if (header.bytes != std::min(source.chunk_bytes, source.message.bytes - begin))
        return Intake::reject("a message chunk of the wrong length");
    if (source.arrived[header.chunk()]) return Intake::reject("a message chunk that arrived before");
    source.arrived[header.chunk()] = true;
    return {Intake::Action::take, source.message.data.get() + begin, source.message.data, nullptr, ""};
}

Intake MessageTransfer::on_withdrawal(Link &link, const FrameHeader &header) {
    Source &source = sources_[link.other()];
    switch (source.state.withdrawn(header.message())) {
    case PostVerdict::invalid: return Intake::reject("a withdrawal of a message that was not offered");
    case PostVerdict::stale: return {};
    case PostVerdict::fresh: forget_message(source); [[fallthrough]];
    case PostVerdict::repeat: send_end(link, header.message(), source.state.last_end());
    }
    grant_waiting();
    return {};
}

void MessageTransfer::finish(Link &link, Source &source, PostEnd how) {
    source.state.end(how);
    send_end(link, source.state.current(), how);
    if (how != PostEnd::delivered) forget_message(source);
}

/// Discards the chunks that have arrived, and releases the room.
void MessageTransfer::forget_message(Source &source) {
    std::erase(waiting_, source.message.from);
    if (std::exchange(source.reserved, false)) office_.release(source.message.bytes);
    source.message = {};
    source.arrived.clear();
}

void MessageTransfer::deliver(Link &link, Source &source) {
    source.reserved = false;
    source.arrived.clear();
    office_.deliver(std::exchange(source.message, {}));
    finish(link, source, PostEnd::delivered);
}

// --------------------------------------------------------------------------------------------------------------------- links --

std::vector<FrameKind> MessageTransfer::kinds() const {
    return {FrameKind::post_offer, FrameKind::post_grant, FrameKind::post_chunk, FrameKind::post_end, FrameKind::post_withdraw};
}

Intake MessageTransfer::prepare_receive(Link &link, const FrameHeader &header) {
    if (header.kind != FrameKind::post_offer && header.kind != FrameKind::post_chunk && header.bytes != 0) {
        return Intake::reject("a control frame of a message with a payload");
    }
    switch (header.kind) {
    case FrameKind::post_offer: return on_offer(link, header);
    case FrameKind::post_chunk: return on_chunk(link, header);
    case FrameKind::post_withdraw: return on_withdrawal(link, header);
    case FrameKind::post_grant: return on_grant(link.other(), header);
    default: return on_end(link.other(), header);
    }
}

/// A payload whose message was given up meanwhile is ignored.
bool MessageTransfer::receive(Link &link, const FrameHeader &header, std::byte *, const Buffer &) {
    Source &source = sources_[link.other()];
    if (!source.state.open() || source.state.current() != header.message() || source.missing == 0) return true;
    if (--source.missing == 0) deliver(link, source);
    return true;
}

void MessageTransfer::damaged(Link &link, const FrameHeader &header) {
    Source &source = sources_[link.other()];
    if (source.state.open() && source.state.current() == header.message() && header.chunk() < source.arrived.size())
        source.arrived[header.chunk()] = false;
}

void MessageTransfer::link_up(Link &link) {
    const auto found = destinations_.find(link.other());
    if (found == destinations_.end()) return;
    found->second->state.link_up();
    send_next(link.other(), *found->second);
}

void MessageTransfer::link_down(PeerId other) {
    if (const auto found = destinations_.find(other); found != destinations_.end()) {
        Destination &destination = *found->second;
        destination.sending = false;
        if (const auto over = destination.state.link_down())
            complete(other, destination, *over, pcclRankConnectionFailed,
                     "the message was not delivered to " + to_string(other) + " in time: the connection to it broke");
    }
    if (const auto found = sources_.find(other); found != sources_.end()) {
        found->second.state.link_down();
        forget_message(found->second);
        grant_waiting();
    }
}

void MessageTransfer::peer_gone(PeerId other) {
    link_down(other);
    members_.erase(other);
    receiver_gone(other);
    sources_.erase(other);
}

void MessageTransfer::set_members(const std::vector<PeerId> &members) {
    members_ = {members.begin(), members.end()};
    office_.open();
    std::vector<PeerId> gone;
    for (const auto &[to, destination] : destinations_) {
        if (!members_.contains(to)) gone.push_back(to);
    }
    for (const PeerId to : gone)
        receiver_gone(to);
    // A newcomer may learn of its admission, and send messages, before this peer learns of it.
    std::erase_if(sources_, [&](const auto &entry) { return !members_.contains(entry.first) && !links_.up(entry.first); });
    grant_waiting();  // other members may have learned of this peer's admission earlier
}

void MessageTransfer::end(pcclResult_t code, const std::string &why) {
    members_.clear();
    while (!destinations_.empty()) {
        const PeerId to = destinations_.begin()->first;
        complete_all(to, code == pcclSuccess ? pcclRankConnectionLost : code, why);
    }
    for (auto &[from, source] : sources_)
        forget_message(source);
    sources_.clear();
    waiting_.clear();
    office_.end(code, why);
}

void MessageTransfer::tick(Time now) {
    for (auto &[to, destination] : destinations_) {
        const auto posts = destination->posts;
        for (const PostPtr &post : posts) {
            if (!post->deadline || now < *post->deadline) continue;
            post->deadline.reset();
            if (destination->state.withdraw(post->number))
                complete(to, *destination, post->number, pcclRankConnectionFailed,
                         to_string(to) + " was not reachable in time, or accepted earlier messages too slowly");
        }
        send_next(to, *destination);
    }
    grant_waiting();
}

}  // namespace pccl::peer
