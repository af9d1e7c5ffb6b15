// See one_hop_op.h.
//
// The life of a chunk of block b: every other member sends its input to member b (contribute), which stores it
// (take_contribution). With the last contribution, member b combines them all and its own (complete) and sends the final chunk to
// everyone (publish). Each receiver stores it (take_final). When a chunk has been sent to all, its memory is released and the
// senders are granted further chunks (release). Without a reduction, a chunk begins at its owner instead (prepare_next,
// distribute).
#include "peer/one_hop_op.h"

#include <algorithm>

#include "kernel/hash.h"
#include "kernel/quantize.h"
#include "kernel/reduce.h"

namespace pccl::peer {

using op::Span;
using wire::FrameHeader;
using wire::FrameKind;

namespace {

/// The elements that are combined at a time. Their sums stay in the first-level cache.
constexpr std::size_t kPiece = kernel::kMaxFinish;
static_assert(kPiece % collective::OneHopPlan::kUnit == 0);

}  // namespace

OneHopOp::OneHopOp(OpId id, ReduceRequest &request, std::uint64_t spec_hash, const std::vector<PeerId> &ring, std::size_t rank,
                   BufferPool &pool, LinkTable &links)
    : Operation(id, request, spec_hash, ring), rank_(rank),
      plan_(request.spec.collective,
            collective::blocks_of(request.spec.collective, request.spec.count, ring, collective::OneHopPlan::kUnit),
            op::size_of(request.spec.type)),
      pool_(pool), links_(links), accumulator_(op::accumulator(request.spec.type, request.spec.op)),
      element_bytes_(op::size_of(request.spec.type)), members_(ring.size()) {
    window_ = plan_.window(payload_bytes(plan_.max_chunk_elements()));
    for (std::size_t r = 0; r < ring.size(); ++r) {
        const std::size_t chunks = plan_.chunks(r);
        members_[r].granted = std::min(window_, chunks);
        members_[r].marks.resize(chunks);
        if (r == rank ? reduces() : gathers()) finals_due_ += chunks;
    }
    granted_ = members_[rank].granted;
    request_.world = static_cast<std::uint32_t>(ring.size());
    request_.algorithm = op::Algorithm::one_hop;
    request_.chunk_elements = plan_.max_chunk_elements();
}

/// Contributions and final chunks have equal lengths.
std::size_t OneHopOp::payload_bytes(std::size_t elements) const {
    if (quantized()) return kernel::packed_bytes(spec().quantization, spec().type, elements);
    return elements * element_bytes_;
}

/// Returns this member's input to a chunk of its own block. In place, save() has copied it to the undo log.
const std::byte *OneHopOp::own(Span span) const {
    return request_.overwrites(span) ? request_.saved(span.begin) : request_.input(span.begin);
}

void OneHopOp::save(std::size_t block, std::size_t chunk) {
    std::uint8_t &mark = members_[block].marks[chunk];
    const Span span = plan_.chunk(block, chunk);
    if (!request_.overwrites(span) || mark & kSaved) return;
    request_.save(span);
    mark |= kSaved;
}

// ------------------------------------------------------------------------------------------------------------------ receiving --

const char *OneHopOp::reject_reason(PeerId from, const FrameHeader &header) const {
    if (header.hop >= ring_.size() || ring_[header.hop] != from || header.hop == rank_)
        return "a chunk under another member's rank";
    if (!plan_.has(phase_of(header.kind))) return "a frame that this collective does not have";
    switch (header.kind) {
    case FrameKind::reduce_chunk: return contribution_reject_reason(header);
    case FrameKind::gather_chunk: return final_reject_reason(header);
    case FrameKind::reduce_credit:
        if (header.block() != header.hop) return "a credit for another member's block";
        if (header.chunk() > plan_.chunks(header.block())) return "a credit for chunks that do not exist";
        if (header.bytes != 0) return "a credit with a payload";
        return nullptr;
    default: return "a frame of another algorithm in a one-hop operation";
    }
}

const char *OneHopOp::contribution_reject_reason(const FrameHeader &header) const {
    if (header.block() != rank_) return "a contribution to another member's block";
    if (header.chunk() >= plan_.chunks(rank_)) return "a chunk that does not exist";
    if (header.chunk() >= granted_) return "a contribution beyond its credit";
    if (header.bytes != payload_bytes(plan_.chunk(rank_, header.chunk()).count)) return "a chunk of the wrong length";
    if (header.chunk() < released_) return "a contribution that it sent before";
    const std::size_t at = header.chunk() - released_;
    if (at < own_chunks_.size() &&
        (own_chunks_[at].complete || (own_chunks_[at].arrived > 0 && own_chunks_[at].contributions[header.hop]))) {
        return "a contribution that it sent before";
    }
    return nullptr;
}

const char *OneHopOp::final_reject_reason(const FrameHeader &header) const {
    if (header.block() != header.hop) return "a final chunk of a block that it does not own";
    if (header.chunk() >= plan_.chunks(header.block())) return "a chunk that does not exist";
    const Member &owner = members_[header.block()];
    if (reduces() && header.chunk() >= owner.sent) return "a final chunk that lacks this member's contribution";
    if (owner.marks[header.chunk()] & kFinalIn) return "a final chunk that it sent before";
    if (header.bytes != payload_bytes(plan_.chunk(header.block(), header.chunk()).count)) return "a chunk of the wrong length";
    return nullptr;
}

Intake OneHopOp::prepare_receive(const FrameHeader &header) {
    if (header.kind == FrameKind::gather_chunk && !quantized()) {
        const Span span = plan_.chunk(header.block(), header.chunk());
        save(header.block(), header.chunk());
        return {Intake::Action::take, output(span), nullptr, this, ""};
    }
    if (header.kind == FrameKind::reduce_credit) return {Intake::Action::take, nullptr, nullptr, nullptr, ""};
    return Intake::take(pool_.get(header.bytes));
}

Received OneHopOp::receive(const FrameHeader &header, std::byte *payload, const Buffer &keep) {
    request_.rx_bytes += wire::kFrameHeaderBytes + header.bytes;
    if (header.kind == FrameKind::reduce_credit) {
        Member &owner = members_[header.block()];
        owner.granted = std::max<std::size_t>(owner.granted, header.chunk());  // credits can arrive out of order
        return Received::part;
    }
    if (header.kind == FrameKind::gather_chunk)
        take_final(header, payload);
    else
        take_contribution(header, keep);
    return finished() ? Received::last : Received::part;
}

/// Returns the owners of missing final chunks, and the members whose contributions to this member's next chunk are missing.
std::vector<PeerId> OneHopOp::waits_for() const {
    std::vector<PeerId> missing;
    const auto next = std::ranges::find_if(own_chunks_, [](const OwnChunk &chunk) { return !chunk.complete; });
    const bool none_arrived = next == own_chunks_.end() || next->contributions.empty();
    const bool open = reduces() && (released_ + own_chunks_.size() < plan_.chunks(rank_) || next != own_chunks_.end());
    for (std::size_t r = 0; r < ring_.size(); ++r) {
        if (r == rank_) continue;
        const bool final_missing =
            gathers() && std::ranges::any_of(members_[r].marks, [](std::uint8_t mark) { return !(mark & kFinalIn); });
        if (final_missing || (open && (none_arrived || !next->contributions[r]))) missing.push_back(ring_[r]);
    }
    return missing;
}

void OneHopOp::take_final(const FrameHeader &header, std::byte *payload) {
    const Span span = plan_.chunk(header.block(), header.chunk());
    std::byte *final = output(span);
    save(header.block(), header.chunk());
    if (quantized()) {
        kernel::dequantize_output(spec().quantization, spec().type, final, payload, span.count);
    } else if (payload != final) {
        request_.store(span, payload);
    }
    members_[header.block()].marks[header.chunk()] |= kFinalIn;
    ++finals_;
}

void OneHopOp::take_contribution(const FrameHeader &header, const Buffer &keep) {
    while (own_chunks_.size() <= header.chunk() - released_)
        own_chunks_.emplace_back();
    OwnChunk &chunk = own_chunks_[header.chunk() - released_];
    if (chunk.contributions.empty()) chunk.contributions.resize(ring_.size());
    chunk.contributions[header.hop] = keep;
    if (++chunk.arrived == ring_.size() - 1) complete(header.chunk());
}

// ------------------------------------------------------------------------------------------------------------------ combining --

/// All contributions to a chunk of this member's block have arrived.
void OneHopOp::complete(std::size_t index) {
    OwnChunk &chunk = own_chunks_[index - released_];
    const Span span = plan_.chunk(rank_, index);
    save(rank_, index);
    Buffer packed = quantized() ? combine_quantized(chunk, span) : combine(chunk, span);
    chunk.contributions.clear();
    chunk.complete = true;
    members_[rank_].marks[index] |= kFinalIn;
    ++finals_;
    if (!gathers()) return release();
    chunk.unsent = ring_.size() - 1;
    publish(index, std::move(packed));
}

FrameHeader OneHopOp::own_header(FrameKind kind, std::size_t block, std::size_t chunk) const {
    FrameHeader header = this->header(kind);
    header.hop = static_cast<std::uint16_t>(rank_);
    header.index = static_cast<std::uint32_t>(block);
    header.aux = static_cast<std::uint32_t>(chunk);
    return header;
}

/// Queues a final chunk for all other members. It is sent from `packed`, or from the receive buffer if that is null.
void OneHopOp::publish(std::size_t index, Buffer packed) {
    const Span span = plan_.chunk(rank_, index);
    OutFrame frame;
    frame.header = own_header(FrameKind::gather_chunk, rank_, index);
    frame.header.bytes = static_cast<std::uint32_t>(payload_bytes(span.count));
    frame.payload = packed ? packed.get() : request_.result(span.begin);
    frame.owner = packed ? nullptr : this;
    frame.keep = std::move(packed);
    frame.header.checksum = kernel::checksum(frame.payload, frame.header.bytes);
    frame.planes = planes(spec().type);
    frame.packed = std::make_shared<Packed>();  // compressed once for all receivers
    for (std::size_t i = 1; i < ring_.size(); ++i)
        members_[(rank_ + i) % ring_.size()].outbox.push_back(frame);
    news_for_all_ = true;
}

/// Writes the final chunk to the receive buffer. Returns null: it is sent from there.
Buffer OneHopOp::combine(const OwnChunk &chunk, Span span) {
    const bool same = accumulator_ == spec().type;
    const std::size_t others = ring_.size() - 1;
    alignas(64) std::byte wide[kPiece * sizeof(double)];
    for (std::size_t i = 0; i < span.count; i += kPiece) {
        const std::size_t n = std::min(kPiece, span.count - i), offset = i * element_bytes_;
        std::byte *final = output(span) + offset;
        std::byte *sum = same ? final : wide;
        const auto contribution = [&](std::size_t k) {
            return k == others ? own(span) + offset : chunk.contributions[plan_.contributor(rank_, k)].get() + offset;
        };
        kernel::combine({spec().type, spec().op, true, true}, sum, contribution(0), contribution(1), n);
        for (std::size_t k = 2; k <= others; ++k)
            kernel::combine({spec().type, spec().op, false, true}, sum, sum, contribution(k), n);
        kernel::finish(spec().type, spec().op, final, sum, n, static_cast<std::uint32_t>(ring_.size()));
    }
    return nullptr;
}

/// Writes the final chunk to the receive buffer, with the values that the others will unpack, and returns it quantized.
Buffer OneHopOp::combine_quantized(const OwnChunk &chunk, Span span) {
    const auto how = spec().quantization;
    const op::Type compute = kernel::compute_type(spec().type);
    const std::size_t others = ring_.size() - 1;
    const std::size_t piece_bytes = payload_bytes(kPiece);
    const Buffer packed = pool_.get(payload_bytes(span.count));
    alignas(64) std::byte sum[kPiece * sizeof(double)];
    for (std::size_t i = 0; i < span.count; i += kPiece) {
        const std::size_t n = std::min(kPiece, span.count - i), at = i / kPiece * piece_bytes;
        std::byte *const out = packed.get() + at;
        kernel::dequantize(how, spec().type, sum, chunk.contributions[plan_.contributor(rank_, 0)].get() + at, n);
        for (std::size_t k = 1; k < others; ++k) {
            kernel::dequantize_combine(how, compute, spec().op, sum, chunk.contributions[plan_.contributor(rank_, k)].get() + at,
                                       sum, n);
        }
        // The owner's input is rounded once, as the others' are. So the error does not depend on which member owns an element.
        kernel::finish_one_hop(how, spec().type, spec().op, out, sum, own(span) + i * element_bytes_,
                               output(span) + i * element_bytes_, n, static_cast<std::uint32_t>(ring_.size()),
                               request_.feedback(span.begin + i));
    }
    return packed;
}

// -------------------------------------------------------------------------------------------------------------------- sending --

/// Releases the memory of chunks that have been sent to all, and grants the other members equally many further chunks. A credit
/// is sent when a quarter of the window is free, so that there are few of them.
void OneHopOp::release() {
    while (!own_chunks_.empty() && own_chunks_.front().complete && own_chunks_.front().unsent == 0) {
        own_chunks_.pop_front();
        ++released_;
    }
    const std::size_t all = plan_.chunks(rank_);
    const std::size_t limit = std::min(all, released_ + window_);
    if (limit <= granted_ || (limit < all && limit - granted_ < (window_ + 3) / 4)) return;
    granted_ = limit;
    OutFrame credit;
    credit.header = own_header(FrameKind::reduce_credit, rank_, granted_);
    for (std::size_t i = 1; i < ring_.size(); ++i) {
        Link *link = links_.up(ring_[(rank_ + i) % ring_.size()]);
        if (!link) continue;
        request_.tx_bytes += wire::kFrameHeaderBytes;
        link->send_urgent(credit);
    }
}

void OneHopOp::posted_at(Link &link) {
    const std::size_t rank = rank_of(link.other());
    if (rank < members_.size()) members_[rank].partner.posted(link);
}

bool OneHopOp::wake_senders(Link &from) {
    from.kick();  // the member may have posted the operation with this frame, or granted further chunks
    if (!std::exchange(news_for_all_, false)) return true;
    for (std::size_t i = 1; i < ring_.size(); ++i) {
        if (Link *link = links_.up(ring_[(rank_ + i) % ring_.size()])) link->kick();
    }
    return true;
}

/// Makes this member's contribution to the next chunk of another member's block.
void OneHopOp::contribute(std::size_t to, OutFrame &frame) {
    Member &owner = members_[to];
    const std::size_t index = owner.sent++;
    const Span span = plan_.chunk(to, index);
    frame.header = own_header(FrameKind::reduce_chunk, to, index);
    fill_from_own(frame, span, payload_bytes(span.count), pool_);
}

/// Without a reduction: makes this member's next chunk, as all members will receive it.
void OneHopOp::prepare_next() {
    const std::size_t index = prepared_.size();
    const Span span = plan_.chunk(rank_, index);
    OutFrame &frame = prepared_.emplace_back();
    frame.header = own_header(FrameKind::gather_chunk, rank_, index);
    fill_from_own(frame, span, payload_bytes(span.count), pool_);
    store_own_chunk(frame, span);
}

/// Makes the next of this member's own chunks that has not been sent to `to`.
void OneHopOp::distribute(std::size_t to, OutFrame &frame) {
    if (members_[to].sent == prepared_.size()) prepare_next();
    frame = prepared_[members_[to].sent++];
    std::size_t least = SIZE_MAX;
    for (std::size_t r = 0; r < ring_.size(); ++r)
        least = r == rank_ ? least : std::min(least, members_[r].sent);
    while (distributed_ < least)
        prepared_[distributed_++].keep.reset();
}

void OneHopOp::finish_local() {
    while (!reduces() && prepared_.size() < plan_.chunks(rank_))
        prepare_next();
}

/// Returns how many chunks may be sent to a member in all: of its block or, without a reduction, of this member's block.
std::size_t OneHopOp::chunks_sendable(std::size_t to) const {
    const std::size_t all = plan_.chunks(block_for(to));
    return reduces() ? std::min(members_[to].granted, all) : all;
}

Source OneHopOp::source(PeerId to, const FrameHeader &sent) const {
    const std::size_t other = rank_of(to);
    if (other >= members_.size() || sent.hop != rank_) return {};
    const bool final = sent.kind == FrameKind::gather_chunk;
    if (final ? !gathers() : sent.kind != FrameKind::reduce_chunk || !reduces()) return {};
    const std::size_t block = final ? rank_ : other;
    if (sent.block() != block || sent.chunk() >= plan_.chunks(block)) return {};
    const Span span = plan_.chunk(block, sent.chunk());
    const bool combined = final && reduces();
    const bool was_sent = combined ? (members_[rank_].marks[sent.chunk()] & kFinalIn) != 0 : sent.chunk() < members_[other].sent;
    if (!was_sent || sent.bytes != payload_bytes(span.count)) return {};
    if (!final && members_[other].marks[sent.chunk()] & kFinalIn)
        return {};  // the final chunk shows that the owner has received this one
    if (quantized()) return {Source::Memory::gone};
    return combined ? Source{Source::Memory::recvbuff, request_.result(span.begin)}
                    : Source{Source::Memory::sendbuff, request_.input(span.begin)};
}

bool OneHopOp::produce(Link &link, OutFrame &frame) {
    const std::size_t rank = rank_of(link.other());
    if (rank >= members_.size()) return false;
    Member &member = members_[rank];
    const bool final = !member.outbox.empty();
    if (!final && member.sent >= chunks_sendable(rank)) return false;
    const std::size_t bytes =
        final ? member.outbox.front().header.bytes : payload_bytes(plan_.chunk(block_for(rank), member.sent).count);
    if (!member.partner.admit(link, bytes)) return false;
    if (final) {  // final chunks first: other members wait for them
        frame = std::move(member.outbox.front());
        member.outbox.pop_front();
    } else if (reduces()) {
        contribute(rank, frame);
    } else {
        distribute(rank, frame);
    }
    request_.tx_bytes += wire::kFrameHeaderBytes + frame.header.bytes;
    if (final) {
        --own_chunks_[frame.header.chunk() - released_].unsent;
        release();  // last, because it can make other links call produce()
    }
    return true;
}

}  // namespace pccl::peer
