// See messages.h.
#include "wire/messages.h"

namespace pccl::wire {
namespace {

template <class Variant> Bytes encode_variant(const Variant &message) {
    Bytes out(sizeof(std::uint32_t));
    Writer write(out);
    write(static_cast<std::uint8_t>(message.index()));
    std::visit([&](const auto &m) { write(m); }, message);
    const auto length = static_cast<std::uint32_t>(out.size() - sizeof(std::uint32_t));
    std::memcpy(out.data(), &length, sizeof length);
    return out;
}

template <class Variant, std::size_t I = 0> bool decode_variant(std::size_t type, Reader &read, Variant &out) {
    if constexpr (I == std::variant_size_v<Variant>) {
        return false;
    } else {
        if (type != I) return decode_variant<Variant, I + 1>(type, read, out);
        read(out.template emplace<I>());
        return read.finished();
    }
}

template <class Variant> bool decode_frame(std::span<const std::byte> frame, Variant &out) {
    Reader read(frame);
    std::uint8_t type = 0;
    read(type);
    return read.ok() && decode_variant(type, read, out);
}

}  // namespace

Bytes encode(const ToMaster &message) { return encode_variant(message); }
Bytes encode(const ToPeer &message) { return encode_variant(message); }
bool decode(std::span<const std::byte> frame, ToMaster &out) { return decode_frame(frame, out); }
bool decode(std::span<const std::byte> frame, ToPeer &out) { return decode_frame(frame, out); }

const char *name_of(const ToMaster &message) {
    static constexpr const char *kNames[] = {
        "Hello", "Heartbeat", "LinkReport",     "VoteUpdate",     "AskPending", "VoteOptimize", "ProbeReport",
        "Done",  "OpFault",   "Frozen",         "OfferState",     "SyncDone",   "Abort",        "Waiting",
        "Leave", "Resume",    "RecoveryReport", "ProgressReport", "SetGraph",   "TagsInUse",    "StateFault"};
    static_assert(std::size(kNames) == std::variant_size_v<ToMaster>);
    return kNames[message.index()];
}

const char *name_of(const ToPeer &message) {
    static constexpr const char *kNames[] = {"Welcome", "Removed",    "Heartbeat",     "OpenLink",   "CloseLink",
                                             "Freeze",  "View",       "PendingAnswer", "Commit",     "OpFailed",
                                             "Probe",   "CallDone",   "SyncPlan",      "SyncCommit", "Resumed",
                                             "Notice",  "Neighbours", "AskTags",       "ForgetTags"};
    static_assert(std::size(kNames) == std::variant_size_v<ToPeer>);
    return kNames[message.index()];
}

const char *name_of(Call call) {
    switch (call) {
    case Call::none: return "no call";
    case Call::connect: return "pcclConnect";
    case Call::update_topology: return "pcclUpdateTopology";
    case Call::optimize_topology: return "pcclOptimizeTopology";
    case Call::sync_shared_state: return "pcclSynchronizeSharedState";
    case Call::all_reduce: return "pcclAllReduce";
    }
    return "?";
}

void FrameBuffer::append(std::span<const std::byte> bytes) {
    if (begin_ > 0 && begin_ * 2 >= buffer_.size()) {
        buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(begin_));
        begin_ = 0;
    }
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

FrameBuffer::Next FrameBuffer::next(std::span<const std::byte> &frame) {
    const std::size_t have = buffer_.size() - begin_;
    std::uint32_t length = 0;
    if (have < sizeof length) return Next::need_more;
    std::memcpy(&length, buffer_.data() + begin_, sizeof length);
    if (length == 0 || length > limit_) return Next::bad;
    if (have < sizeof length + length) return Next::need_more;
    frame = std::span(buffer_).subspan(begin_ + sizeof length, length);
    begin_ += sizeof length + length;
    return Next::frame;
}

}  // namespace pccl::wire
