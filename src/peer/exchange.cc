#include "peer/exchange.h"

#include <algorithm>
#include <new>
#include <utility>

#include "kernel/hash.h"
#include "peer/careful_copy.h"
#include "peer/tcp_tuning.h"

namespace pccl::peer {

using protocol::PostVerdict;
using protocol::PostEnd;
using protocol::PostSender;
using wire::FrameHeader;
using wire::FrameKind;

namespace {

constexpr std::size_t kChunkBytes = std::size_t{256} << 10;
constexpr std::size_t kLongPathChunkBytes = std::size_t{64} << 10;  ///< so that lanes side by side finish at about the same time

std::size_t chunks(std::size_t bytes, std::size_t chunk_bytes) { return bytes / chunk_bytes + (bytes % chunk_bytes != 0); }

FrameHeader header_of(FrameKind kind, std::uint64_t number) {
    FrameHeader header;
    header.kind = kind;
    header.epoch = number;
    return header;
}

/// The elements that a message is taken for, should it be compressed: models are sent as float32. What else it may be shrinks less that way.
std::uint8_t planes_of(const Post &post) { return post.bytes % 4 == 0 ? 4 : 1; }

void say(Link &link, FrameHeader header) { link.send_urgent(small_frame(header, {})); }

void say_end(Link &link, std::uint64_t number, PostEnd how) {
    FrameHeader header = header_of(FrameKind::post_end, number);
    header.aux = static_cast<std::uint32_t>(how);
    say(link, header);
}

}  // namespace

Exchange::~Exchange() { end(pcclRankConnectionLost, "this peer left the run"); }

// ------------------------------------------------------------------------------------------------------------------ sending --

void Exchange::post(PostPtr post) {
    const PeerId to = post->to;
    if (!members_.contains(to)) {
        return office_.settle(*post, pcclRankConnectionLost, (members_.empty() ? "this peer" : to_string(to)) + " is out of the run");
    }
    auto &entry = destinations_[to];
    if (!entry) {
        entry = std::make_unique<Destination>();
        if (links_.up(to)) entry->state.link_up();
    }
    entry->posts.push_back(post);
    post->number = entry->state.add();
    speak(to, *entry);
}

/// Says of the head what is to be said.
void Exchange::speak(PeerId to, Destination &destination) {
    Link *link = links_.up(to);
    if (!link) return;
    switch (destination.state.next()) {
    case PostSender::Action::nothing: return;
    case PostSender::Action::offer: return offer(*link, destination);
    case PostSender::Action::withdraw:
        stop_sending(to, destination);
        return say(*link, header_of(FrameKind::post_withdraw, destination.state.head()));
    }
}

void Exchange::offer(Link &link, Destination &destination) {
    const Post &post = *destination.posts.front();
    const std::size_t least = link.round_trip() < kLongPath ? kChunkBytes : kLongPathChunkBytes;
    destination.next_chunk = 0;
    destination.chunk_bytes = std::min<std::size_t>(wire::kMaxChunkBytes, std::max<std::size_t>(least, post.bytes / wire::kMaxMessageChunks + 1));
    FrameHeader header = header_of(FrameKind::post_offer, post.number);
    header.tag = post.tag.value;
    header.offset = post.bytes;
    header.aux = static_cast<std::uint32_t>(destination.chunk_bytes);
    if (post.bytes > wire::kMaxInlineMessage) return say(link, header);
    destination.state.handed_over();
    link.send_urgent(small_frame(header, wire::Bytes(post.data, post.data + post.bytes)));
}

bool Exchange::Destination::produce(Link &, OutFrame &frame) {
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

void Exchange::send_again(Link &link, const FrameHeader &sent) {
    const auto found = destinations_.find(link.other());
    if (found == destinations_.end()) return;
    Destination &destination = *found->second;
    if (destination.posts.empty() || destination.posts.front()->number != sent.epoch) return;  // it is over
    const Post &post = *destination.posts.front();
    if (!post.spoiled.empty()) return;
    const std::size_t begin = sent.aux * destination.chunk_bytes;
    if (sent.aux >= destination.next_chunk || sent.bytes != std::min(destination.chunk_bytes, post.bytes - begin))
        return link.give_up("it asks again for a part of a message that it was not sent");
    const Buffer copy(new std::byte[sent.bytes]);
    if (!copy_carefully(copy.get(), post.data + begin, sent.bytes)) return spoil(link.other(), destination, "freed");
    if (kernel::checksum(copy.get(), sent.bytes) != sent.checksum) return spoil(link.other(), destination, "modified");
    link.send_again(sent, copy);
}

void Exchange::spoil(PeerId to, Destination &destination, const char *what) {
    Post &post = *destination.posts.front();
    post.spoiled = "the message to " + to_string(to) + " was " + what + " while it was sent. Leave its memory alone until the call has returned";
    if (destination.state.withdraw(post.number)) settle(to, destination, post.number, pcclInvalidUsage, post.spoiled);
    speak(to, destination);
}

/// Nothing of the head's memory is read after it.
void Exchange::stop_sending(PeerId to, Destination &destination) {
    destination.sending = false;
    if (Link *link = links_.up(to)) {
        link->remove_producer(&destination);
        link->detach(destination.posts.front().get());
    }
}

void Exchange::settle(PeerId to, Destination &destination, std::uint64_t number, pcclResult_t code, const std::string &why) {
    const auto found = std::ranges::find(destination.posts, number, [](const PostPtr &post) { return post->number; });
    if (found == destination.posts.end()) return;
    if (found == destination.posts.begin()) stop_sending(to, destination);
    const PostPtr post = *found;
    destination.posts.erase(found);
    if (post->spoiled.empty()) office_.settle(*post, code, why);
    else office_.settle(*post, pcclInvalidUsage, post->spoiled);
}

void Exchange::settle_all(PeerId to, pcclResult_t code, const std::string &why) {
    const auto found = destinations_.find(to);
    if (found == destinations_.end()) return;
    auto &posts = found->second->posts;
    while (!posts.empty()) settle(to, *found->second, posts.front()->number, code, why);
    destinations_.erase(found);
}

/// What it may have received counts as delivered: it may have passed on what it made of it.
void Exchange::receiver_gone(PeerId to) {
    const auto found = destinations_.find(to);
    if (found == destinations_.end()) return;
    Destination &destination = *found->second;
    if (destination.state.may_be_delivered()) settle(to, destination, destination.state.head(), pcclSuccess, "");
    settle_all(to, pcclRankConnectionLost, to_string(to) + " is out of the run");
}

Intake Exchange::heard_grant(PeerId from, const FrameHeader &header) {
    const auto found = destinations_.find(from);
    const PostVerdict heard = found == destinations_.end() ? PostVerdict::invalid : found->second->state.granted(header.epoch);
    if (heard == PostVerdict::invalid) return Intake::reject("room for a message that was not offered");
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

Intake Exchange::heard_end(PeerId from, const FrameHeader &header) {
    const auto found = destinations_.find(from);
    if (header.aux >= protocol::kPostEnds || found == destinations_.end()) return Intake::reject("an end of no message");
    const auto how = static_cast<PostEnd>(header.aux);
    Destination &destination = *found->second;
    const PostVerdict heard = destination.state.ended(header.epoch, how);
    if (heard == PostVerdict::invalid) return Intake::reject("an end that a message cannot have had");
    if (heard != PostVerdict::fresh) return {};
    const std::string to = to_string(from);
    switch (how) {
    case PostEnd::delivered: settle(from, destination, header.epoch, pcclSuccess, ""); break;
    case PostEnd::withdrawn:
        settle(from, destination, header.epoch, pcclRankConnectionFailed, to + " did not take the message in time: its mailbox is full, or the path to it slow");
        break;
    case PostEnd::too_large:
        settle(from, destination, header.epoch, pcclInvalidArgument, "the message is larger than the mailbox of " + to + " (pcclSetMailbox)");
        break;
    case PostEnd::no_memory: settle(from, destination, header.epoch, pcclRankConnectionFailed, to + " has no memory for the message"); break;
    }
    speak(from, destination);
    return {};
}

// ---------------------------------------------------------------------------------------------------------------- receiving --

Intake Exchange::take_offer(Link &link, const FrameHeader &header) {
    const bool whole = header.bytes == header.offset;
    if ((header.bytes > 0 && !whole) || header.bytes > wire::kMaxInlineMessage) return Intake::reject("an offer of a message with another length");
    if (header.aux < wire::kMinMessageChunk || header.aux > wire::kMaxChunkBytes || header.offset / header.aux >= wire::kMaxMessageChunks) {
        return Intake::reject("an offer of a message in too many chunks");
    }
    Source &source = sources_[link.other()];
    switch (source.state.offered(header.epoch)) {
    case PostVerdict::invalid: return Intake::reject("an offer of a message before the last one was over");
    case PostVerdict::stale: return {};
    case PostVerdict::repeat: say_end(link, header.epoch, source.state.last_end()); return {};
    case PostVerdict::fresh: break;
    }
    source.message = {link.other(), Tag{header.tag}, header.epoch, nullptr, header.offset};
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

/// False: not now; or never, and then it is over.
bool Exchange::make_room(Source &source) {
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

void Exchange::grant_waiting() {
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
        if (source.missing == 0) deliver(link, source);  // an empty one is whole
        else say(link, header_of(FrameKind::post_grant, source.message.number));
    }
}

Intake Exchange::take_chunk(Link &link, const FrameHeader &header) {
    Source &source = sources_[link.other()];
    switch (source.state.part(header.epoch)) {
    case PostVerdict::fresh: break;
    case PostVerdict::invalid: return Intake::reject("a part of a message that there was no room for");
    default: return {};
    }
    if (header.aux >= source.arrived.size()) return Intake::reject("a part of a message that does not exist");
    const std::size_t begin = header.aux * source.chunk_bytes;
    if (header.bytes != std::min(source.chunk_bytes, source.message.bytes - begin)) return Intake::reject("a part of a message of the wrong length");
    if (source.arrived[header.aux]) return Intake::reject("a part of a message that came before");
    source.arrived[header.aux] = true;
    return {Intake::Action::take, source.message.data.get() + begin, source.message.data, nullptr, ""};
}

Intake Exchange::take_withdrawal(Link &link, const FrameHeader &header) {
    Source &source = sources_[link.other()];
    switch (source.state.withdrawn(header.epoch)) {
    case PostVerdict::invalid: return Intake::reject("a withdrawal of a message that was not offered");
    case PostVerdict::stale: return {};
    case PostVerdict::fresh: forget_message(source); [[fallthrough]];
    case PostVerdict::repeat: say_end(link, header.epoch, source.state.last_end());
    }
    grant_waiting();
    return {};
}

void Exchange::finish(Link &link, Source &source, PostEnd how) {
    source.state.end(how);
    say_end(link, source.state.current(), how);
    if (how != PostEnd::delivered) forget_message(source);
}

/// What has come of it is of no use, and its room is another's.
void Exchange::forget_message(Source &source) {
    std::erase(waiting_, source.message.from);
    if (std::exchange(source.reserved, false)) office_.release(source.message.bytes);
    source.message = {};
    source.arrived.clear();
}

void Exchange::deliver(Link &link, Source &source) {
    source.reserved = false;
    source.arrived.clear();
    office_.deliver(std::exchange(source.message, {}));
    finish(link, source, PostEnd::delivered);
}

// --------------------------------------------------------------------------------------------------------------------- links --

Intake Exchange::intake(Link &link, const FrameHeader &header) {
    if (header.kind != FrameKind::post_offer && header.kind != FrameKind::post_chunk && header.bytes != 0) {
        return Intake::reject("a word about a message with a payload");
    }
    switch (header.kind) {
    case FrameKind::post_offer: return take_offer(link, header);
    case FrameKind::post_chunk: return take_chunk(link, header);
    case FrameKind::post_withdraw: return take_withdrawal(link, header);
    case FrameKind::post_grant: return heard_grant(link.other(), header);
    default: return heard_end(link.other(), header);
    }
}

/// The payload of an offer or of a chunk. What was given up meanwhile is no longer anybody's.
void Exchange::receive(Link &link, const FrameHeader &header) {
    Source &source = sources_[link.other()];
    if (!source.state.open() || source.state.current() != header.epoch || source.missing == 0) return;
    if (--source.missing == 0) deliver(link, source);
}

void Exchange::damaged(Link &link, const FrameHeader &header) {
    Source &source = sources_[link.other()];
    if (source.state.open() && source.state.current() == header.epoch && header.aux < source.arrived.size()) source.arrived[header.aux] = false;
}

void Exchange::link_up(Link &link) {
    const auto found = destinations_.find(link.other());
    if (found == destinations_.end()) return;
    found->second->state.link_up();
    speak(link.other(), *found->second);
}

void Exchange::link_down(PeerId other) {
    if (const auto found = destinations_.find(other); found != destinations_.end()) {
        Destination &destination = *found->second;
        destination.sending = false;
        if (const auto over = destination.state.link_down())
            settle(other, destination, *over, pcclRankConnectionFailed, "the message was not sent to " + to_string(other) + " in time: the connection to it broke");
    }
    if (const auto found = sources_.find(other); found != sources_.end()) {
        found->second.state.link_down();
        forget_message(found->second);
        grant_waiting();
    }
}

void Exchange::peer_gone(PeerId other) {
    link_down(other);
    members_.erase(other);
    receiver_gone(other);
    sources_.erase(other);
}

void Exchange::set_members(const std::vector<PeerId> &members) {
    members_ = {members.begin(), members.end()};
    office_.open();
    std::vector<PeerId> gone;
    for (const auto &[to, destination] : destinations_) {
        if (!members_.contains(to)) gone.push_back(to);
    }
    for (const PeerId to : gone) receiver_gone(to);
    // A newcomer may have heard of its admission, and sent something, before this peer has.
    std::erase_if(sources_, [&](const auto &entry) { return !members_.contains(entry.first) && !links_.up(entry.first); });
    grant_waiting();  // others may have heard of this peer's admission earlier
}

void Exchange::end(pcclResult_t code, const std::string &why) {
    members_.clear();
    while (!destinations_.empty()) {
        const PeerId to = destinations_.begin()->first;
        settle_all(to, code == pcclSuccess ? pcclRankConnectionLost : code, why);
    }
    for (auto &[from, source] : sources_) forget_message(source);
    sources_.clear();
    waiting_.clear();
    office_.end(code, why);
}

void Exchange::tick(Time now) {
    for (auto &[to, destination] : destinations_) {
        const auto posts = destination->posts;
        for (const PostPtr &post : posts) {
            if (!post->deadline || now < *post->deadline) continue;
            post->deadline.reset();
            if (destination->state.withdraw(post->number))
                settle(to, *destination, post->number, pcclRankConnectionFailed, to_string(to) + " could not be reached in time, or took what was posted before too slowly");
        }
        speak(to, *destination);
    }
    grant_waiting();
}

}  // namespace pccl::peer
