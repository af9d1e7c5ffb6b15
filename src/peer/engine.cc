#include "peer/engine.h"

#include <algorithm>

#include "base/log.h"
#include "kernel/hash.h"

namespace pccl::peer {

using wire::Fingerprint;
using wire::FrameHeader;
using wire::FrameKind;

namespace {

/// A sender keeps to wire::kEagerBytes; what it sent for operations that failed here unposted is forgotten with the epoch.
constexpr std::size_t kEagerHeld = 16 * wire::kEagerBytes;

wire::Bytes encode(const Fingerprint &what) {
    wire::Bytes bytes;
    wire::Writer write(bytes);
    write(what);
    return bytes;
}

std::string describe(const Fingerprint &f) {
    static constexpr const char *kTypes[] = {"uint8", "int8", "int16", "uint16", "uint32", "int32", "uint64", "int64", "float16", "bfloat16",
                                             "float", "double"};
    static constexpr const char *kOps[] = {"sum", "avg", "prod", "max", "min"};
    static constexpr const char *kQuants[] = {"none", "min-max", "zero-point-scale"};
    std::string text = "count " + std::to_string(f.count) + ", type " + kTypes[static_cast<int>(f.type)] + ", operator " +
                       kOps[static_cast<int>(f.op)] + ", quantization " + kQuants[static_cast<int>(f.quantization.algorithm)];
    if (f.quantization.algorithm != kernel::Quant::none) text += std::string(" to ") + kTypes[static_cast<int>(f.quantization.type)];
    return text;
}

}  // namespace

void Engine::start_epoch(const protocol::StartEpoch &epoch, PeerId self) {
    epoch_ = epoch.epoch;
    self_ = self;
    ring_ = epoch.ring;
    rank_ = epoch.rank;
    begun_.clear();
    early_.clear();
    links_.for_each([](Link &link) { link.eager_sent = link.eager_held = link.eager_frames_held = 0; });
    links_.for_each([](Link &link) { link.resume(); });
}

std::string Engine::overlap(const ReduceRequest &request) const {
    if (request.overlaps_itself()) return "its send and receive buffers overlap without being the same";
    for (const auto &[id, op] : ops_) {
        if (request.overlaps(op->request())) {
            return "its buffers overlap those of the operation with tag " + std::to_string(id.tag.value) + ", which is in flight";
        }
    }
    return "";
}

void Engine::announce(const RingOp &op) {
    FrameHeader header;
    header.kind = FrameKind::op_open;
    header.epoch = op.id().epoch.value;
    header.tag = op.id().tag.value;
    header.seq = op.id().seq;
    const auto payload = encode(op.what());
    for (const PeerId neighbour : {successor(), predecessor()}) {
        if (Link *link = links_.up(neighbour)) link->send_urgent(small_frame(header, payload));
        if (successor() == predecessor()) break;
    }
}

void Engine::start(const OpId &id, ReduceRequest &request) {
    begun_[id.tag] = id.seq + 1;
    const std::string conflict = overlap(request);
    const auto encoded = encode(request.what);
    const std::uint64_t fingerprint = kernel::checksum(encoded.data(), encoded.size());
    auto &op = *(ops_[id] = std::make_unique<RingOp>(id, request, fingerprint, ring_.size(), rank_, pool_));
    if (!conflict.empty()) {
        op.reported = true;
        return host_.op_broken(id, pcclInvalidUsage,
                               "all-reduce with tag " + std::to_string(id.tag.value) + " at " + to_string(self_) + ": " + conflict);
    }
    announce(op);
    Link *next = links_.up(successor());
    if (next) next->add_producer(&op);

    const auto found = early_.find(id);
    if (found == early_.end()) return;
    const Early early = std::move(found->second);
    early_.erase(found);
    for (const auto &[other, theirs] : early.openings) compare(op, other, theirs);
    for (const auto &chunk : early.chunks) {
        chunk.link->eager_held -= std::min<std::size_t>(chunk.link->eager_held, chunk.header.bytes);
        chunk.link->eager_frames_held -= chunk.link->eager_frames_held > 0;
        receive_chunk(*chunk.link, chunk.header, chunk.payload.get(), chunk.payload);
    }
    if (next) next->kick();
}

void Engine::end(const OpId &id, bool committed) {
    const auto found = ops_.find(id);
    if (found == ops_.end()) return;
    RingOp *op = found->second.get();
    Link *next = committed && ring_.size() > 1 ? links_.up(successor()) : nullptr;
    if (next) next->eager_sent -= std::min(next->eager_sent, op->take_eager());  // committed: it was posted there
    links_.for_each([&](Link &link) {
        link.remove_producer(op);
        link.detach(op);
    });
    ops_.erase(found);
}

Engine::Known Engine::known(const OpId &id) const {
    if (ops_.contains(id)) return Known::running;
    const auto begun = begun_.find(id.tag);
    return begun != begun_.end() && id.seq < begun->second ? Known::ended : Known::early;
}

Intake Engine::intake_early(Link &link, const FrameHeader &header) {
    if (link.eager_held + header.bytes > kEagerHeld || link.eager_frames_held >= wire::kMaxEagerFrames) {
        return {Intake::Action::reject, nullptr, nullptr, nullptr, "too much for operations that are not posted here"};
    }
    Intake take{Intake::Action::take, nullptr, Buffer(new std::byte[header.bytes]), nullptr, ""};
    take.into = take.keep.get();
    return take;
}

Intake Engine::intake(Link &link, const FrameHeader &header) {
    if (header.epoch < epoch_.value || header.epoch == 0) return {};
    if (header.epoch > epoch_.value) return {Intake::Action::hold, nullptr, nullptr, nullptr, ""};
    if (header.kind == FrameKind::op_open) {
        if (header.bytes > 64) return {Intake::Action::reject, nullptr, nullptr, nullptr, "an opening that is too long"};
        return intake_early(link, header);
    }
    if (ring_.size() < 2 || link.other() != predecessor()) return {Intake::Action::reject, nullptr, nullptr, nullptr, "a chunk from no neighbour"};
    const OpId id = header.op();
    switch (known(id)) {
    case Known::ended: return {};
    case Known::early: return intake_early(link, header);
    case Known::running: break;
    }
    RingOp &op = *ops_.at(id);
    if (op.reported && !op.finished()) return {};
    if (header.offset != op.fingerprint()) return {};  // of a caller who disagrees: its opening says so
    if (const char *why = op.objection(header)) return {Intake::Action::reject, nullptr, nullptr, nullptr, why};
    return op.intake(header);
}

void Engine::receive(Link &link, const FrameHeader &header, std::byte *payload, const Buffer &keep) {
    if (header.epoch != epoch_.value) return;
    if (header.kind == FrameKind::op_open) return receive_opening(link, header, payload);
    switch (known(header.op())) {
    case Known::ended: return;
    case Known::running: return receive_chunk(link, header, payload, keep);
    case Known::early: break;
    }
    link.eager_held += header.bytes;
    ++link.eager_frames_held;
    early_[header.op()].chunks.push_back({link.shared_from_this(), header, keep});
}

void Engine::receive_chunk(Link &link, const FrameHeader &header, std::byte *payload, const Buffer &keep) {
    RingOp &op = *ops_.at(header.op());
    if ((op.reported && !op.finished()) || header.offset != op.fingerprint()) return;
    if (const char *why = op.objection(header)) {  // possible only for what came early, and for duplicates
        PCCL_LOG_WARN("%s sent %s", to_string(link.other()).c_str(), why);
        return;
    }
    const bool finished = op.receive(header, payload, keep);
    if (Link *next = links_.up(successor())) next->kick();
    if (finished && !op.reported) {
        op.reported = true;
        host_.op_finished(op.id());
    }
}

void Engine::receive_opening(Link &link, const FrameHeader &header, const std::byte *payload) {
    Fingerprint theirs;
    wire::Reader read(std::span(payload, header.bytes));
    read(theirs);
    if (!read.finished()) {
        PCCL_LOG_WARN("%s sent a malformed opening", to_string(link.other()).c_str());
        return;
    }
    const OpId id = header.op();
    switch (known(id)) {
    case Known::ended: return;
    case Known::running: return compare(*ops_.at(id), link.other(), theirs);
    case Known::early: break;
    }
    ++link.eager_frames_held;
    early_[id].openings[link.other()] = theirs;
}

/// The other has posted the operation: it takes bulk from now on, if it means the same operation.
void Engine::compare(RingOp &op, PeerId other, const Fingerprint &theirs) {
    if (theirs == op.what()) {
        if (other != successor() || op.successor_ready) return;
        op.successor_ready = true;
        if (Link *next = links_.up(other)) {
            next->eager_sent -= std::min(next->eager_sent, op.take_eager());
            next->kick();
        }
        return;
    }
    if (op.reported) return;
    op.reported = true;
    host_.op_broken(op.id(), pcclInvalidUsage,
                    "all-reduce with tag " + std::to_string(op.id().tag.value) + ": " + to_string(self_) + " calls it with " +
                        describe(op.what()) + "; " + to_string(other) + " calls it with " + describe(theirs));
}

}  // namespace pccl::peer
