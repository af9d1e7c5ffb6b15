// See ring_op.h.
//
// Terms. A *block* is the part of the buffer that one member owns. A *chunk* is a part of a block that travels as one frame,
// named by (block, index in the block): header.index and header.aux. A *hop* is a transfer from a member to its successor:
// header.hop counts the hops of a phase that a chunk has made before this one. A *partial result* is a chunk that some members
// have contributed to (reduce_chunk). A *final* chunk holds the result (gather_chunk).
//
// The path of a chunk of block b among N members: member b+1 starts it with its own input (start_chunk), members b+2 .. b-1
// combine it with theirs and pass it on (combine_and_forward), and member b combines it, finishes it and stores it
// (complete_block_chunk). In the gather phase it continues from member b to b+1 .. b-1, each of which stores it and passes it on
// (take_final).
#include "peer/ring_op.h"

#include "kernel/checked.h"
#include "kernel/hash.h"
#include "kernel/quantize.h"
#include "kernel/reduce.h"

namespace pccl::peer {

using op::Phase;
using op::Span;
using wire::FrameHeader;
using wire::FrameKind;

RingOp::RingOp(OpId id, ReduceRequest &request, std::uint64_t spec_hash, const std::vector<PeerId> &ring,
               const collective::RingPlan &plan, BufferPool &pool, std::size_t bytes_in_flight,
               std::vector<collective::MissingChunk> missing)
    : Operation(id, request, spec_hash, ring), plan_(plan), successor_(ring[plan_.successor()]),
      predecessor_(ring[plan_.predecessor()]), pool_(pool), accumulator_(op::accumulator(request.spec.type, request.spec.op)),
      element_bytes_(op::size_of(request.spec.type)), accumulator_bytes_(op::size_of(accumulator_)),
      missing_(std::move(missing)) {
    const std::size_t members = ring.size();
    for (std::size_t b = 0; b < members; ++b) {
        first_chunk_.push_back(total_chunks_);
        total_chunks_ += plan_.chunks(b);
    }
    first_chunk_.push_back(total_chunks_);
    finals_due_ = plan_.finals_due();
    pipeline_depth_ =
        std::max<std::size_t>(1, bytes_in_flight / std::max<std::size_t>(1, partial_bytes(0, plan_.max_chunk_elements())));
    for (std::size_t i = 0; i < missing_.size(); ++i) {
        const bool held = missing_[i].held[plan_.rank()];
        if (!held)
            ++finals_due_;
        else if (!missing_[i].held[plan_.successor()])
            relays_.push_back(i);
    }
    total_chunks_ += missing_.size();
    marks_.resize(total_chunks_);
    request_.world = static_cast<std::uint32_t>(members);
    request_.algorithm = op::Algorithm::ring;
    request_.chunk_elements = plan_.max_chunk_elements();
    if (members == 1) finish_alone();
}

/// This member is the only survivor: its own input is the result of all elements that are final nowhere. Its residual does not
/// change.
void RingOp::finish_alone() {
    for (std::size_t i = 0; i < plan_.chunks(0); ++i) {
        const Span span = plan_.chunk(0, i);
        if (!request_.in_place()) request_.store(span, request_.input(span.begin));
        if (const auto &residual = request_.residual) {
            const std::size_t size = residual->element_bytes();
            std::memcpy(request_.next_residual.get() + span.begin * size, residual->now() + span.begin * size, span.count * size);
        }
        marks_[i] |= kFinalIn;
        ++finals_;
    }
    started_ = plan_.chunks(0);
}

Span RingOp::span_of(const FrameHeader &header) const {
    return is_missing(header) ? missing_[header.chunk()].span : plan_.chunk(header.block(), header.chunk());
}

/// Calls f(index of the chunk, span, number of contributors to its final value).
template <class F> void RingOp::for_each_chunk(F &&f) const {
    for (std::size_t b = 0; b < plan_.members(); ++b) {
        for (std::size_t i = 0; i < plan_.chunks(b); ++i)
            f(first_chunk_[b] + i, plan_.chunk(b, i), plan_.members());
    }
    for (std::size_t i = 0; i < missing_.size(); ++i)
        f(first_chunk_.back() + i, missing_[i].span, missing_[i].members);
}

void RingOp::record_finals() {
    auto finals = std::move(request_.finals);
    for_each_chunk([&](std::size_t chunk, Span span, std::size_t members) {
        if (marks_[chunk] & kFinalIn) finals.push_back({span.begin, span.count, static_cast<std::uint32_t>(members)});
    });
    request_.finals = collective::joined(std::move(finals));
}

/// Partial results that were stored in the receive buffer are replaced by this member's input.
void RingOp::suspend_for_repair() {
    record_finals();
    if (!request_.in_place()) return;
    for_each_chunk([&](std::size_t chunk, Span span, std::size_t) {
        if ((marks_[chunk] & kSaved) && !(marks_[chunk] & kFinalIn))
            request_.undo.put_back(span.begin * element_bytes_, span.count * element_bytes_);
    });
    request_.undo.forget();
}

void RingOp::finish_local() {
    while (!plan_.has(Phase::reduce_to_owner) && started_ < plan_.chunks(plan_.first_block())) {
        OutFrame unsent;
        start_chunk(unsent);
    }
}

/// Returns the bytes on the wire of a contribution (hop 0) or partial result.
std::size_t RingOp::partial_bytes(std::size_t hop, std::size_t elements) const {
    if (quantized()) return kernel::packed_bytes(spec().quantization, spec().type, elements);
    return elements * (hop == 0 ? element_bytes_ : accumulator_bytes_);
}

std::size_t RingOp::payload_bytes(const FrameHeader &header, std::size_t elements) const {
    if (header.kind == FrameKind::reduce_chunk) return partial_bytes(header.hop, elements);
    if (quantized() && !is_missing(header)) return kernel::packed_bytes(spec().quantization, spec().type, elements);
    return elements * element_bytes_;
}

/// Returns this member's input. In place, it has moved to the undo log if the receive buffer has been written.
const std::byte *RingOp::own(std::size_t chunk, std::size_t element) const {
    return marks_[chunk] & kSaved ? request_.saved(element) : request_.input(element);
}

void RingOp::save(std::size_t chunk, Span span) {
    if (!request_.overwrites(span) || marks_[chunk] & kSaved) return;
    request_.save(span);
    marks_[chunk] |= kSaved;
}

const char *RingOp::reject_reason(PeerId from, const FrameHeader &header) const {
    if (from != predecessor_) return "a chunk, and it is not the predecessor in the ring";
    if (header.kind == FrameKind::direct_chunk) return "a chunk of a direct exchange in a ring operation";
    if (!plan_.has(phase_of(header.kind))) return "a chunk that this collective does not have";
    if (is_missing(header)) return missing_reject_reason(header);
    if (header.block() >= plan_.members() || header.chunk() >= plan_.chunks(header.block())) return "a chunk that does not exist";
    const bool final = header.kind == FrameKind::gather_chunk;
    const std::size_t arrival = final ? plan_.gather_arrival(header.block()) : plan_.reduce_arrival(header.block());
    if (arrival == 0 || header.hop + 1u != arrival) return "a chunk with an impossible hop count";
    if (marks_[chunk_index(header)] & (final ? kFinalIn : kPartialIn)) return "a chunk that it sent before";
    if (header.bytes != payload_bytes(header, plan_.chunk(header.block(), header.chunk()).count))
        return "a chunk of the wrong length";
    return nullptr;
}

const char *RingOp::missing_reject_reason(const FrameHeader &header) const {
    if (header.chunk() >= missing_.size()) return "a chunk that does not exist";
    if (header.kind != FrameKind::gather_chunk || header.hop != 0) return "a chunk with an impossible hop count";
    if (missing_[header.chunk()].held[plan_.rank()] || (marks_[chunk_index(header)] & kFinalIn))
        return "a chunk that it sent before";
    if (header.bytes != payload_bytes(header, missing_[header.chunk()].span.count)) return "a chunk of the wrong length";
    return nullptr;
}

Intake RingOp::prepare_receive(const FrameHeader &header) {
    const std::size_t chunk = chunk_index(header);
    const Span span = span_of(header);
    const bool final = header.kind == FrameKind::gather_chunk;
    const bool as_stored = final ? (!quantized() || is_missing(header)) : (!quantized() && accumulator_ == spec().type);
    const bool fits = as_stored && !(final && request_.keeps_finals_in_place());
    // A partial result is stored in the receive buffer only if scratch memory is crowded and the receive buffer has room for it.
    // At the owner it needs no storage, because it is combined at once.
    if (fits && (final || (pool_.crowded() && plan_.has(Phase::gather_from_owner) && header.block() != plan_.own_block()))) {
        save(chunk, span);
        if (!final) marks_[chunk] |= kPlaced;
        Intake take{Intake::Action::take, request_.output(span.begin), nullptr, this, ""};
        take.taker_checks = !final;
        return take;
    }
    Intake take = Intake::take(pool_.get(header.bytes));
    take.taker_checks = !final && !quantized();
    return take;
}

Received RingOp::receive(const FrameHeader &header, std::byte *payload, const Buffer &keep) {
    const std::size_t chunk = chunk_index(header);
    const Span span = span_of(header);
    request_.rx_bytes += wire::kFrameHeaderBytes + header.bytes;
    const auto damaged = [&] {  // the link requests it again
        marks_[chunk] &= static_cast<std::uint8_t>(~(kPartialIn | kPlaced));
        return Received::damaged;
    };
    if (header.kind == FrameKind::gather_chunk) {
        if (marks_[chunk] & kFinalIn) return Received::part;
        take_final(header, span, payload, keep);
    } else {
        if (marks_[chunk] & kPartialIn) return Received::part;
        if (marks_[chunk] & kPlaced && payload != request_.output(span.begin))
            marks_[chunk] &= static_cast<std::uint8_t>(~kPlaced);
        marks_[chunk] |= kPartialIn;
        if (header.block() != plan_.own_block())
            return combine_and_forward(header, span, payload, keep) ? Received::part : damaged();
        if (quantized())
            complete_quantized(header, span, payload, keep);
        else if (!complete_block_chunk(header, span, payload))
            return damaged();
    }
    marks_[chunk] |= kFinalIn;
    ++finals_;
    return finished() ? Received::last : Received::part;
}

void RingOp::forward(const FrameHeader &header, std::size_t hop, const std::byte *payload, std::size_t bytes, Buffer keep,
                     PackedPtr packed) {
    OutFrame frame;
    frame.header = header;
    frame.header.hop = static_cast<std::uint16_t>(hop);
    frame.header.bytes = static_cast<std::uint32_t>(bytes);
    frame.payload = payload;
    frame.owner = keep ? nullptr : this;
    frame.keep = std::move(keep);
    const bool final = header.kind == FrameKind::gather_chunk;
    frame.planes = is_missing(header) ? static_cast<std::uint8_t>(element_bytes_) : planes(final ? spec().type : accumulator_);
    frame.packed = std::move(packed);
    outbox_.emplace(plan_.send_priority(phase_of(header.kind), hop, header.chunk(), pipeline_depth_), std::move(frame));
}

/// Returns memory for one chunk of the accumulator type or compute type.
std::byte *RingOp::temporary() {
    if (!temporary_) temporary_ = pool_.get(plan_.max_chunk_elements() * std::max<std::size_t>(accumulator_bytes_, 4));
    return temporary_.get();
}

/// Returns false if the received chunk is damaged.
bool RingOp::combine_and_forward(const FrameHeader &header, Span span, std::byte *payload, const Buffer &keep) {
    const std::byte *mine = own(chunk_index(header), span.begin);
    FrameHeader out = header;
    if (quantized()) {
        kernel::requantize(spec().quantization, spec().type, spec().op, payload, mine, span.count, request_.feedback(span.begin));
        out.checksum = kernel::checksum(payload, header.bytes);
        forward(out, header.hop + 1u, payload, header.bytes, keep);
        return true;
    }
    const bool input = header.hop == 0;
    const std::size_t bytes = span.count * accumulator_bytes_;
    std::byte *result = payload;
    Buffer held = keep;
    if (input && accumulator_ != spec().type) {  // widened in place, elements would overwrite others that have not been read
        held = pool_.get(bytes);
        result = held.get();
    }
    const auto seals = kernel::combine_checked({spec().type, spec().op, input, true}, result, payload, mine, span.count);
    if (seals.in != header.checksum) return false;
    out.checksum = seals.out;
    forward(out, header.hop + 1u, result, bytes, std::move(held));
    return true;
}

/// Returns this member's input to a chunk that is about to become final here, in memory that the final values do not overwrite.
const std::byte *RingOp::own_contribution_copy(std::size_t chunk, Span span) {
    if (!request_.keeps_finals_in_place()) save(chunk, span);
    const std::byte *mine = own(chunk, span.begin);
    if (!request_.in_place() || marks_[chunk] & kSaved) return mine;
    std::memcpy(temporary(), mine, span.count * element_bytes_);
    return temporary();
}

/// Returns false if the received chunk is damaged.
bool RingOp::complete_block_chunk(const FrameHeader &header, Span span, std::byte *payload) {
    const std::byte *mine = own_contribution_copy(chunk_index(header), span);
    std::byte *final = request_.output(span.begin);
    const kernel::Combine how{spec().type, spec().op, header.hop == 0, true};
    const auto seals =
        kernel::combine_and_finish_checked(how, final, payload, mine, span.count, static_cast<std::uint32_t>(plan_.members()));
    if (seals.in != header.checksum) {
        if (mine == temporary_.get()) request_.store(span, mine);
        return false;
    }
    if (!plan_.has(Phase::gather_from_owner)) return true;
    FrameHeader out = header;
    out.kind = FrameKind::gather_chunk;
    out.checksum = seals.out;
    forward(out, 0, final, span.count * element_bytes_, nullptr);
    return true;
}

void RingOp::complete_quantized(const FrameHeader &header, Span span, std::byte *payload, const Buffer &keep) {
    const std::byte *mine = own_contribution_copy(chunk_index(header), span);
    // The owner stores the values that the others will unpack, not its more precise ones, so all members hold the same bits.
    kernel::requantize_final(spec().quantization, spec().type, spec().op, payload, mine, request_.output(span.begin), span.count,
                             static_cast<std::uint32_t>(plan_.members()), request_.feedback(span.begin));
    if (!plan_.has(Phase::gather_from_owner)) return;
    FrameHeader out = header;
    out.kind = FrameKind::gather_chunk;
    out.checksum = kernel::checksum(payload, header.bytes);
    forward(out, 0, payload, header.bytes, keep);
}

void RingOp::take_final(const FrameHeader &header, Span span, std::byte *payload, const Buffer &keep) {
    std::byte *final = request_.output(span.begin);
    const bool packed = quantized() && !is_missing(header);
    if (payload != final) {  // it is packed, or arrived early, or repair requires all of it before any is written
        if (!request_.keeps_finals_in_place()) save(chunk_index(header), span);
        if (packed)
            kernel::dequantize_output(spec().quantization, spec().type, final, payload, span.count);
        else
            request_.store(span, payload);
    }
    if (is_missing(header)) {
        if (!missing_[header.chunk()].held[plan_.successor()]) forward(header, 0, final, header.bytes, nullptr, arrived_packed);
    } else if (plan_.forwards_gather(header.block())) {
        forward(header, header.hop + 1u, packed ? payload : final, header.bytes, packed ? keep : nullptr, arrived_packed);
    }
}

// -------------------------------------------------------------------------------------------------------------------- sending --

/// Makes the next chunk of the block that begins at this member.
void RingOp::start_chunk(OutFrame &frame) {
    const std::size_t block = plan_.first_block();
    const Span span = plan_.chunk(block, started_);
    frame.header = header(chunk_kind(plan_.phases().first()));
    frame.header.index = static_cast<std::uint32_t>(block);
    frame.header.aux = static_cast<std::uint32_t>(started_);
    fill_from_own(frame, span, partial_bytes(0, span.count), pool_);
    if (!plan_.has(Phase::reduce_to_owner)) store_own_chunk(frame, span);
    ++started_;
}

/// Makes the next final chunk that this member held from the beginning and its successor misses.
void RingOp::relay_final(OutFrame &frame) {
    const std::size_t index = relays_[relayed_++];
    const Span span = missing_[index].span;
    frame.header = header(FrameKind::gather_chunk);
    frame.header.index = static_cast<std::uint32_t>(plan_.members());
    frame.header.aux = static_cast<std::uint32_t>(index);
    frame.header.bytes = static_cast<std::uint32_t>(span.count * element_bytes_);
    frame.payload = request_.result(span.begin);
    frame.owner = this;
    frame.planes = static_cast<std::uint8_t>(element_bytes_);
    frame.header.checksum = kernel::checksum(frame.payload, frame.header.bytes);
}

Source RingOp::source(PeerId to, const FrameHeader &sent) const {
    if (to != successor_) return {};
    if (sent.kind == FrameKind::reduce_chunk) return source_of_partial(sent);
    return sent.kind == FrameKind::gather_chunk ? source_of_final(sent) : Source{};
}

Source RingOp::source_of_partial(const FrameHeader &sent) const {
    if (!plan_.has(Phase::reduce_to_owner) || sent.block() >= plan_.members() || sent.chunk() >= plan_.chunks(sent.block()))
        return {};
    const Span span = plan_.chunk(sent.block(), sent.chunk());
    if (sent.bytes != partial_bytes(sent.hop, span.count)) return {};
    const std::size_t chunk = chunk_index(sent);
    if (marks_[chunk] & kFinalIn) return {};  // the final chunk shows that the successor has received this one
    if (sent.hop == 0) {
        if (sent.block() != plan_.first_block() || sent.chunk() >= started_) return {};
        return quantized() ? Source{Source::Memory::gone} : Source{Source::Memory::sendbuff, own(chunk, span.begin)};
    }
    if (sent.hop != plan_.reduce_arrival(sent.block()) || sent.block() == plan_.own_block() || !(marks_[chunk] & kPartialIn))
        return {};
    return marks_[chunk] & kPlaced ? Source{Source::Memory::recvbuff, request_.result(span.begin)} : Source{Source::Memory::gone};
}

Source RingOp::source_of_final(const FrameHeader &sent) const {
    const bool missing = is_missing(sent);
    if (missing && sent.chunk() >= missing_.size()) return {};
    if (!missing &&
        (!plan_.has(Phase::gather_from_owner) || sent.block() >= plan_.members() || sent.chunk() >= plan_.chunks(sent.block())))
        return {};
    const Span span = span_of(sent);
    if (sent.bytes != payload_bytes(sent, span.count) || (!missing && sent.hop != plan_.gather_arrival(sent.block()))) return {};
    const bool starts = !missing && !plan_.has(Phase::reduce_to_owner) && sent.block() == plan_.first_block();
    const bool held = marks_[chunk_index(sent)] & kFinalIn || (missing && missing_[sent.chunk()].held[plan_.rank()]);
    if (starts ? sent.chunk() >= started_ : !held) return {};
    if (quantized() && !missing) return {Source::Memory::gone};
    return starts ? Source{Source::Memory::sendbuff, request_.input(span.begin)}
                  : Source{Source::Memory::recvbuff, request_.result(span.begin)};
}

/// The frame with the lowest priority is sent first. The priority of a chunk to relay is its index in `missing_`.
RingOp::Next RingOp::next() const {
    constexpr std::size_t kNever = SIZE_MAX;
    const std::size_t forwarding = outbox_.empty() ? kNever : outbox_.begin()->first;
    const bool to_start = started_ < plan_.chunks(plan_.first_block());
    const std::size_t starting = to_start ? plan_.send_priority(plan_.phases().first(), 0, started_, pipeline_depth_) : kNever;
    const std::size_t relaying = relayed_ < relays_.size() ? relays_[relayed_] : kNever;
    if (relaying != kNever && relaying <= std::min(forwarding, starting)) return Next::relay;
    if (forwarding != kNever && forwarding <= starting) return Next::forward;
    return starting == kNever ? Next::nothing : Next::start;
}

std::size_t RingOp::next_bytes(Next next) const {
    switch (next) {
    case Next::nothing: break;
    case Next::forward: return outbox_.begin()->second.header.bytes;
    case Next::start: return partial_bytes(0, plan_.chunk(plan_.first_block(), started_).count);
    case Next::relay: return missing_[relays_[relayed_]].span.count * element_bytes_;
    }
    return 0;
}

void RingOp::posted_at(Link &link) {
    if (link.other() == successor_) to_successor_.posted(link);
}

bool RingOp::produce(Link &link, OutFrame &frame) {
    if (link.other() != successor_) return false;
    const Next kind = next();
    if (kind == Next::nothing || !to_successor_.admit(link, next_bytes(kind))) return false;
    if (kind == Next::start) start_chunk(frame);
    if (kind == Next::relay) relay_final(frame);
    if (kind == Next::forward) {
        frame = std::move(outbox_.begin()->second);
        outbox_.erase(outbox_.begin());
    }
    request_.tx_bytes += wire::kFrameHeaderBytes + frame.header.bytes;
    return true;
}

}  // namespace pccl::peer
