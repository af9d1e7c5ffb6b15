#include "sim/trainers/mail.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "sim/data_plane.h"

namespace pccl::sim {

using protocol::PostEnd;
using protocol::PostSender;
using protocol::PostVerdict;

namespace {

constexpr std::size_t kParts = 3;  // parts of a message that is not sent with its offer

/// True if the frame is new information. Peers of the simulation send no invalid frames.
bool is_news(PostVerdict heard) {
    if (heard == PostVerdict::invalid) throw std::logic_error("a frame refers to an impossible message");
    return heard == PostVerdict::fresh;
}

}  // namespace

// ----------------------------------------------------------------------------------------------------------------- sending --

peer::PostPtr Mail::post(PeerId to, Tag tag, const std::byte *data, std::size_t bytes, std::optional<Time> deadline) {
    auto post = std::make_shared<peer::Post>();
    post->to = to;
    post->tag = tag;
    post->data = data;
    post->bytes = bytes;
    post->deadline = deadline;
    const Outgoing message{post, std::make_shared<std::vector<std::byte>>(data, data + bytes)};
    cluster_.at_node(node_, Duration(0), [this, message] { begin(message); });
    if (deadline) cluster_.at_node(node_, *deadline - cluster_.queue().now(), [this, post] { withdraw(post); });
    return post;
}

/// Runs on the peer's I/O thread, which has received the post.
void Mail::begin(const Outgoing &message) {
    const PeerId to = message.post->to;
    if (!members_.contains(to)) {
        office_.complete(*message.post, pcclRankConnectionLost, to_string(to) + " is out of the run");
        return witness_.on_news(node_);
    }
    const auto [entry, is_new] = destinations_.try_emplace(to);
    if (is_new && cluster_.data().up(node_, to)) entry->second.state.link_up();
    message.post->number = entry->second.state.add();
    entry->second.posts.push_back(message);
    speak(to);
}

void Mail::withdraw(const peer::PostPtr &post) {
    if (office_.completed(*post)) return;
    if (destinations_.at(post->to).state.withdraw(post->number))
        settle(post->to, post->number, pcclRankConnectionFailed, to_string(post->to) + " could not be reached in time");
    speak(post->to);
}

void Mail::say(PeerId to, Frame frame) {
    if (!cluster_.data().up(node_, to)) return;
    Mail &receiver = mail_of_(*cluster_.owner(to));
    cluster_.data().send(node_, to,
                         [&receiver, from = node_.peer->id(), frame = std::move(frame)] { receiver.hear(from, frame); });
}

/// Sends the next frame for the first post of the queue.
void Mail::speak(PeerId to) {
    const auto found = destinations_.find(to);
    if (found == destinations_.end() || !cluster_.data().up(node_, to)) return;
    Destination &destination = found->second;
    switch (destination.state.next()) {
    case PostSender::Action::nothing: return;
    case PostSender::Action::offer: {
        const auto &[post, content] = destination.posts.front();
        const bool small = post->bytes <= inline_bytes;
        if (small) destination.state.handed_over();
        return say(to, {.kind = Kind::offer,
                        .number = post->number,
                        .tag = post->tag,
                        .bytes = post->bytes,
                        .content = small ? content : nullptr});
    }
    case PostSender::Action::withdraw:
        destination.transfer = 0;
        return say(to, {.kind = Kind::withdrawal, .number = destination.state.head()});
    }
}

/// Sends the parts one after the other. Each takes some time to leave.
void Mail::send_part(PeerId to, std::uint64_t transfer, std::size_t part) {
    const auto found = destinations_.find(to);
    if (found == destinations_.end() || found->second.transfer != transfer) return;
    Destination &destination = found->second;
    const auto &[post, content] = destination.posts.front();
    say(to, {.kind = Kind::part, .number = post->number, .content = content, .part = part});
    if (part + 1 == kParts) {
        destination.transfer = 0;
        return destination.state.handed_over();
    }
    cluster_.at_node(node_, cluster_.delay(), [this, to, transfer, part] { send_part(to, transfer, part + 1); });
}

void Mail::settle(PeerId to, std::uint64_t number, pcclResult_t code, const std::string &why) {
    Destination &destination = destinations_.at(to);
    const auto found = std::ranges::find(destination.posts, number, [](const Outgoing &message) { return message.post->number; });
    if (found == destination.posts.end()) return;
    if (found == destination.posts.begin()) destination.transfer = 0;
    const Outgoing message = *found;
    destination.posts.erase(found);
    if (!std::equal(message.content->begin(), message.content->end(), message.post->data)) witness_.on_changed_post(node_);
    office_.complete(*message.post, code, why);
    witness_.on_news(node_);
}

void Mail::settle_all(PeerId to, pcclResult_t code, const std::string &why) {
    const auto found = destinations_.find(to);
    if (found == destinations_.end()) return;
    while (!found->second.posts.empty())
        settle(to, found->second.posts.front().post->number, code, why);
    destinations_.erase(found);
}

void Mail::receiver_gone(PeerId to) {
    const auto found = destinations_.find(to);
    if (found == destinations_.end()) return;
    if (found->second.state.may_be_delivered()) settle(to, found->second.state.head(), pcclSuccess, "");
    settle_all(to, pcclRankConnectionLost, to_string(to) + " is out of the run");
}

void Mail::hear_room(PeerId from, const Frame &frame) {
    Destination &destination = destinations_.at(from);
    if (!is_news(destination.state.granted(frame.number))) return;
    destination.transfer = ++transfers_;
    send_part(from, destination.transfer, 0);
}

void Mail::hear_end(PeerId from, const Frame &frame) {
    if (!is_news(destinations_.at(from).state.ended(frame.number, frame.how))) return;
    switch (frame.how) {
    case PostEnd::delivered: settle(from, frame.number, pcclSuccess, ""); break;
    case PostEnd::too_large:
        settle(from, frame.number, pcclInvalidArgument, "larger than the mailbox of " + to_string(from));
        break;
    default: settle(from, frame.number, pcclRankConnectionFailed, to_string(from) + " did not accept the message in time");
    }
    speak(from);
}

// --------------------------------------------------------------------------------------------------------------- receiving --

void Mail::hear(PeerId from, const Frame &frame) {
    witness_.on_frame(node_, static_cast<std::size_t>(frame.kind));
    switch (frame.kind) {
    case Kind::offer: return take_offer(from, frame);
    case Kind::part: return take_part(from, frame);
    case Kind::withdrawal: return take_withdrawal(from, frame);
    case Kind::room: return hear_room(from, frame);
    case Kind::end: return hear_end(from, frame);
    }
}

void Mail::take_offer(PeerId from, const Frame &frame) {
    Source &source = sources_[from];
    const PostVerdict heard = source.state.offered(frame.number);
    if (heard == PostVerdict::repeat)
        return say(from, {.kind = Kind::end, .number = frame.number, .how = source.state.last_end()});
    if (!is_news(heard)) return;
    source.offer = frame;
    if (frame.content && waiting_.empty() && make_room(from, source)) return deliver(from, source, frame.content);
    if (!source.state.open()) return;
    waiting_.push_back(from);
    grant_waiting();
}

/// False: there is no room now, or the message can never fit and is settled.
bool Mail::make_room(PeerId from, Source &source) {
    switch (office_.reserve(source.offer.bytes)) {
    case peer::PostOffice::Room::later: return false;
    case peer::PostOffice::Room::never: finish(from, source, PostEnd::too_large); return false;
    case peer::PostOffice::Room::yes: break;
    }
    return source.reserved = true;
}

/// Grants room in the order of the offers. The content of each message is then sent again, including small messages.
void Mail::grant_waiting() {
    while (!waiting_.empty()) {
        const PeerId from = waiting_.front();
        Source &source = sources_.at(from);
        const bool room = make_room(from, source);
        if (!room && source.state.open()) return;
        std::erase(waiting_, from);
        if (!room) continue;
        source.state.granted();
        say(from, {.kind = Kind::room, .number = source.offer.number});
    }
}

void Mail::room_made() {
    cluster_.at_node(node_, Duration(0), [this] { grant_waiting(); });
}

void Mail::take_part(PeerId from, const Frame &frame) {
    Source &source = sources_[from];
    if (!is_news(source.state.part(frame.number))) return;
    source.parts.insert(frame.part);
    if (source.parts.size() == kParts) deliver(from, source, frame.content);
}

void Mail::take_withdrawal(PeerId from, const Frame &frame) {
    Source &source = sources_[from];
    const PostVerdict heard = source.state.withdrawn(frame.number);
    if (heard != PostVerdict::repeat && !is_news(heard)) return;
    if (heard == PostVerdict::fresh) forget_message(from, source);
    say(from, {.kind = Kind::end, .number = frame.number, .how = source.state.last_end()});
    grant_waiting();
}

/// Discards the parts that have arrived, and frees the room for another message.
void Mail::forget_message(PeerId from, Source &source) {
    std::erase(waiting_, from);
    if (std::exchange(source.reserved, false)) office_.release(source.offer.bytes);
    source.parts.clear();
}

void Mail::deliver(PeerId from, Source &source, const Content &content) {
    source.reserved = false;
    source.parts.clear();
    peer::Message message{from, source.offer.tag, source.offer.number, peer::Buffer(new std::byte[content->size()]),
                          content->size()};
    std::ranges::copy(*content, message.data.get());
    office_.deliver(std::move(message));
    finish(from, source, PostEnd::delivered);
    witness_.on_news(node_);
}

void Mail::finish(PeerId from, Source &source, PostEnd how) {
    source.state.end(how);
    say(from, {.kind = Kind::end, .number = source.state.current(), .how = how});
    if (how != PostEnd::delivered) forget_message(from, source);
}

// ------------------------------------------------------------------------------------------------------ links and members --

void Mail::on_effect(const protocol::PeerEffect &effect) {
    if (const auto *epoch = std::get_if<protocol::StartEpoch>(&effect)) set_members(epoch->ring);
    if (const auto *made = std::get_if<protocol::MakeLink>(&effect)) link_down(made->link.other);
    if (const auto *dropped = std::get_if<protocol::DropLink>(&effect)) peer_gone(dropped->other);
    if (const auto *over = std::get_if<protocol::DropAllLinks>(&effect)) end(over->code, over->why);
}

void Mail::on_told(const wire::ToPeer &message) {
    const auto *told = std::get_if<wire::Neighbours>(&message);
    if (told && told->code == pcclSuccess) neighbours_ = *told;
}

void Mail::on_link(PeerId other, bool up) {
    if (!up) return link_down(other);
    if (const auto found = destinations_.find(other); found != destinations_.end()) found->second.state.link_up();
    speak(other);
}

void Mail::link_down(PeerId other) {
    if (const auto found = destinations_.find(other); found != destinations_.end()) {
        found->second.transfer = 0;
        if (const auto over = found->second.state.link_down())
            settle(other, *over, pcclRankConnectionFailed,
                   "the message was not sent to " + to_string(other) + " in time: the connection to it broke");
    }
    if (const auto found = sources_.find(other); found != sources_.end()) {
        found->second.state.link_down();
        forget_message(other, found->second);
        grant_waiting();
    }
}

void Mail::peer_gone(PeerId other) {
    link_down(other);
    members_.erase(other);
    receiver_gone(other);
    sources_.erase(other);
}

void Mail::set_members(const std::vector<PeerId> &members) {
    members_ = {members.begin(), members.end()};
    office_.open();
    std::vector<PeerId> gone;
    for (const auto &[to, destination] : destinations_)
        if (!members_.contains(to)) gone.push_back(to);
    for (const PeerId to : gone)
        receiver_gone(to);
    std::erase_if(sources_,
                  [&](const auto &entry) { return !members_.contains(entry.first) && !cluster_.data().up(node_, entry.first); });
    grant_waiting();  // other peers may have received the view with this peer's admission earlier
}

void Mail::end(pcclResult_t code, const std::string &why) {
    members_.clear();
    neighbours_ = {};
    while (!destinations_.empty())
        settle_all(destinations_.begin()->first, code == pcclSuccess ? pcclRankConnectionLost : code, why);
    for (auto &[from, source] : sources_)
        forget_message(from, source);
    sources_.clear();
    waiting_.clear();
    office_.end(code, why);
    witness_.on_news(node_);
}

}  // namespace pccl::sim
