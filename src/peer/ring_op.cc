#include "peer/ring_op.h"

#include "kernel/checked.h"
#include "kernel/hash.h"
#include "kernel/quantize.h"
#include "kernel/reduce.h"

namespace pccl::peer {

using op::Span;
using wire::FrameHeader;
using wire::FrameKind;

RingOp::RingOp(OpId id, ReduceRequest &request, std::uint64_t fingerprint, const std::vector<PeerId> &ring,
               const collective::RingPlan &plan, BufferPool &pool, std::size_t under_way, std::vector<collective::Lacking> lacking)
    : Operation(id, request, fingerprint), plan_(plan),
      successor_(ring[plan_.successor()]), predecessor_(ring[plan_.predecessor()]), pool_(pool),
      accumulator_(op::accumulator(request.what.type, request.what.op)), element_bytes_(op::size_of(request.what.type)),
      accumulator_bytes_(op::size_of(accumulator_)), lacking_(std::move(lacking)) {
    const std::size_t members = ring.size();
    for (std::size_t b = 0; b < members; ++b) {
        first_chunk_.push_back(total_chunks_);
        total_chunks_ += plan_.chunks(b);
    }
    first_chunk_.push_back(total_chunks_);
    finals_due_ = plan_.finals_due();
    apart_ = std::max<std::size_t>(1, under_way / std::max<std::size_t>(1, partial_bytes(0, plan_.max_chunk_elements())));
    for (std::size_t i = 0; i < lacking_.size(); ++i) {
        const bool held = lacking_[i].held[plan_.rank()];
        if (!held) ++finals_due_;
        else if (!lacking_[i].held[plan_.successor()]) handing_on_.push_back(i);
    }
    total_chunks_ += lacking_.size();
    marks_.resize(total_chunks_);
    request_.world = static_cast<std::uint32_t>(members);
    request_.algorithm = op::Algorithm::ring;
    request_.chunk_elements = plan_.max_chunk_elements();
    if (members == 1) finish_alone();
}

/// The last of those who took part: its own values are the result of what is final nowhere, and it owes itself what it always did.
void RingOp::finish_alone() {
    for (std::size_t i = 0; i < plan_.chunks(0); ++i) {
        const Span span = plan_.chunk(0, i);
        const std::size_t offset = span.begin * element_bytes_;
        if (!request_.in_place()) std::memcpy(request_.recv + offset, request_.send + offset, span.count * element_bytes_);
        if (const auto &residual = request_.residual) {
            const std::size_t size = residual->element_bytes();
            std::memcpy(request_.lost.get() + span.begin * size, residual->now() + span.begin * size, span.count * size);
        }
        marks_[i] |= kFinalIn;
        ++finals_;
    }
    injected_ = plan_.chunks(0);
}

Span RingOp::span_of(const FrameHeader &header) const {
    return of_lacking(header) ? lacking_[header.aux].span : plan_.chunk(header.index, header.aux);
}

/// Calls f(chunk's index, span, members that took part once it is final).
template <class F>
void RingOp::for_each_chunk(F &&f) const {
    for (std::size_t b = 0; b < plan_.members(); ++b) {
        for (std::size_t i = 0; i < plan_.chunks(b); ++i) f(first_chunk_[b] + i, plan_.chunk(b, i), plan_.members());
    }
    for (std::size_t i = 0; i < lacking_.size(); ++i) f(first_chunk_.back() + i, lacking_[i].span, lacking_[i].members);
}

void RingOp::record_finals() {
    auto finals = std::move(request_.finals);
    for_each_chunk([&](std::size_t chunk, Span span, std::size_t members) {
        if (marks_[chunk] & kFinalIn) finals.push_back({span.begin, span.count, static_cast<std::uint32_t>(members)});
    });
    request_.finals = collective::joined(std::move(finals));
}

/// Partial results that were put in place for want of scratch make way for this member's values.
void RingOp::carry() {
    record_finals();
    if (!request_.in_place()) return;
    for_each_chunk([&](std::size_t chunk, Span span, std::size_t) {
        if ((marks_[chunk] & kSaved) && !(marks_[chunk] & kFinalIn)) request_.undo.put_back(span.begin * element_bytes_, span.count * element_bytes_);
    });
    request_.undo.forget();
}

void RingOp::settle() {
    while (!plan_.reduces() && injected_ < plan_.chunks(plan_.first_block())) {
        OutFrame unsent;
        inject(unsent);
    }
}

/// Bytes of a contribution (hop 0) or partial result on the wire.
std::size_t RingOp::partial_bytes(std::size_t hop, std::size_t elements) const {
    if (quantized()) return kernel::packed_bytes(request_.what.quantization, request_.what.type, elements);
    return elements * (hop == 0 ? element_bytes_ : accumulator_bytes_);
}

std::size_t RingOp::payload_bytes(const FrameHeader &header, std::size_t elements) const {
    if (header.kind == FrameKind::reduce_chunk) return partial_bytes(header.hop, elements);
    if (quantized() && !of_lacking(header)) return kernel::packed_bytes(request_.what.quantization, request_.what.type, elements);
    return elements * element_bytes_;
}

/// This member's contribution, wherever it is: the receive buffer may have been written since.
const std::byte *RingOp::own(std::size_t chunk, std::size_t element) const {
    return marks_[chunk] & kSaved ? request_.saved(element) : request_.sent(element);
}

void RingOp::save(std::size_t chunk, Span span) {
    if (!request_.overwrites(span) || marks_[chunk] & kSaved) return;
    request_.save(span);
    marks_[chunk] |= kSaved;
}

const char *RingOp::objection(PeerId from, const FrameHeader &header) const {
    if (from != predecessor_) return "a chunk from no neighbour";
    if (header.kind == FrameKind::direct_chunk) return "a contribution of a direct exchange in a ring";
    if (header.kind == FrameKind::gather_chunk ? !plan_.gathers() : !plan_.reduces()) return "a chunk that this collective does not have";
    if (of_lacking(header)) return objection_to_lacking(header);
    if (header.index >= plan_.members() || header.aux >= plan_.chunks(header.index)) return "a chunk that does not exist";
    const bool final = header.kind == FrameKind::gather_chunk;
    const std::size_t arrival = final ? plan_.gather_arrival(header.index) : plan_.reduce_arrival(header.index);
    if (arrival == 0 || header.hop + 1u != arrival) return "a chunk that took another way";
    if (marks_[chunk_index(header)] & (final ? kFinalIn : kPartialIn)) return "a chunk that came before";
    if (header.bytes != payload_bytes(header, plan_.chunk(header.index, header.aux).count)) return "a chunk of the wrong length";
    return nullptr;
}

const char *RingOp::objection_to_lacking(const FrameHeader &header) const {
    if (header.aux >= lacking_.size()) return "a chunk that does not exist";
    if (header.kind != FrameKind::gather_chunk || header.hop != 0) return "a chunk that took another way";
    if (lacking_[header.aux].held[plan_.rank()] || (marks_[chunk_index(header)] & kFinalIn)) return "a chunk that came before";
    if (header.bytes != payload_bytes(header, lacking_[header.aux].span.count)) return "a chunk of the wrong length";
    return nullptr;
}

Intake RingOp::intake(const FrameHeader &header) {
    const std::size_t chunk = chunk_index(header);
    const Span span = span_of(header);
    const bool final = header.kind == FrameKind::gather_chunk;
    const bool as_stored = final ? (!quantized() || of_lacking(header)) : (!quantized() && accumulator_ == request_.what.type);
    const bool fits = as_stored && !(final && request_.keeps_finals_in_place());
    // A partial result goes to its place only where scratch is crowded and it has one; at the owner it is used up at once.
    if (fits && (final || (pool_.crowded() && plan_.gathers() && header.index != plan_.own_block()))) {
        save(chunk, span);
        if (!final) marks_[chunk] |= kPlaced;
        Intake take{Intake::Action::take, request_.place(span.begin), nullptr, this, ""};
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
    const auto damaged = [&] {  // it will come again
        marks_[chunk] &= static_cast<std::uint8_t>(~(kPartialIn | kPlaced));
        return Received::damaged;
    };
    if (header.kind == FrameKind::gather_chunk) {
        if (marks_[chunk] & kFinalIn) return Received::part;
        take_final(header, span, payload, keep);
    } else {
        if (marks_[chunk] & kPartialIn) return Received::part;
        if (marks_[chunk] & kPlaced && payload != request_.place(span.begin)) marks_[chunk] &= static_cast<std::uint8_t>(~kPlaced);
        marks_[chunk] |= kPartialIn;
        if (header.index != plan_.own_block()) return combine_and_forward(header, span, payload, keep) ? Received::part : damaged();
        if (quantized()) complete_quantized(header, span, payload, keep);
        else if (!complete_block_chunk(header, span, payload)) return damaged();
    }
    marks_[chunk] |= kFinalIn;
    ++finals_;
    return finished() ? Received::last : Received::part;
}

void RingOp::forward(const FrameHeader &header, std::size_t hop, const std::byte *payload, std::size_t bytes, Buffer keep, PackedPtr packed) {
    OutFrame frame;
    frame.header = header;
    frame.header.hop = static_cast<std::uint16_t>(hop);
    frame.header.bytes = static_cast<std::uint32_t>(bytes);
    frame.payload = payload;
    frame.owner = keep ? nullptr : this;
    frame.keep = std::move(keep);
    const bool final = header.kind == FrameKind::gather_chunk;
    frame.planes = of_lacking(header) ? static_cast<std::uint8_t>(element_bytes_) : planes(final ? request_.what.type : accumulator_);
    frame.packed = std::move(packed);
    outbox_.emplace(plan_.turn(final, hop, header.aux, apart_), std::move(frame));
}

/// Room for one chunk of the accumulator (or compute) type.
std::byte *RingOp::temporary() {
    if (!temporary_) temporary_ = pool_.get(plan_.max_chunk_elements() * std::max<std::size_t>(accumulator_bytes_, 4));
    return temporary_.get();
}

/// False: what came was damaged.
bool RingOp::combine_and_forward(const FrameHeader &header, Span span, std::byte *payload, const Buffer &keep) {
    const auto &what = request_.what;
    const std::byte *mine = own(chunk_index(header), span.begin);
    FrameHeader out = header;
    if (quantized()) {
        kernel::requantize(what.quantization, what.type, what.op, payload, mine, span.count, request_.feedback(span.begin));
        out.checksum = kernel::checksum(payload, header.bytes);
        forward(out, header.hop + 1u, payload, header.bytes, keep);
        return true;
    }
    const bool input = header.hop == 0;
    const std::size_t bytes = span.count * accumulator_bytes_;
    std::byte *result = payload;
    Buffer held = keep;
    if (input && accumulator_ != what.type) {  // widening in place would overtake itself
        held = pool_.get(bytes);
        result = held.get();
    }
    const auto seals = kernel::combine_checked({what.type, what.op, input, true}, result, payload, mine, span.count);
    if (seals.in != header.checksum) return false;
    out.checksum = seals.out;
    forward(out, header.hop + 1u, result, bytes, std::move(held));
    return true;
}

/// This member's contribution to a chunk that is about to become final here, safe from that.
const std::byte *RingOp::own_aside(std::size_t chunk, Span span) {
    if (!request_.keeps_finals_in_place()) save(chunk, span);
    const std::byte *mine = own(chunk, span.begin);
    if (!request_.in_place() || marks_[chunk] & kSaved) return mine;
    std::memcpy(temporary(), mine, span.count * element_bytes_);
    return temporary();
}

/// False: what came was damaged.
bool RingOp::complete_block_chunk(const FrameHeader &header, Span span, std::byte *payload) {
    const auto &what = request_.what;
    const std::byte *mine = own_aside(chunk_index(header), span);
    std::byte *final = request_.place(span.begin);
    const kernel::Combine how{what.type, what.op, header.hop == 0, true};
    const auto seals =
        kernel::combine_and_finish_checked(how, final, payload, mine, span.count, static_cast<std::uint32_t>(plan_.members()));
    if (seals.in != header.checksum) {
        if (mine == temporary_.get()) std::memcpy(final, mine, span.count * element_bytes_);
        return false;
    }
    if (!plan_.gathers()) return true;
    FrameHeader out = header;
    out.kind = FrameKind::gather_chunk;
    out.checksum = seals.out;
    forward(out, 0, final, span.count * element_bytes_, nullptr);
    return true;
}

void RingOp::complete_quantized(const FrameHeader &header, Span span, std::byte *payload, const Buffer &keep) {
    const auto &what = request_.what;
    const std::byte *mine = own_aside(chunk_index(header), span);
    // The owner holds what the others will unpack, not what it had: so all hold the same bits.
    kernel::requantize_final(what.quantization, what.type, what.op, payload, mine, request_.place(span.begin),
                             span.count, static_cast<std::uint32_t>(plan_.members()), request_.feedback(span.begin));
    if (!plan_.gathers()) return;
    FrameHeader out = header;
    out.kind = FrameKind::gather_chunk;
    out.checksum = kernel::checksum(payload, header.bytes);
    forward(out, 0, payload, header.bytes, keep);
}

void RingOp::take_final(const FrameHeader &header, Span span, std::byte *payload, const Buffer &keep) {
    std::byte *final = request_.place(span.begin);
    const bool packed = quantized() && !of_lacking(header);
    if (payload != final) {  // packed, or it came before the operation was posted, or it must be whole before it is written
        if (!request_.keeps_finals_in_place()) save(chunk_index(header), span);
        if (packed) kernel::dequantize_output(request_.what.quantization, request_.what.type, final, payload, span.count);
        else std::memcpy(final, payload, header.bytes);
    }
    if (of_lacking(header)) {
        if (!lacking_[header.aux].held[plan_.successor()]) forward(header, 0, final, header.bytes, nullptr, arrived_packed);
    } else if (plan_.forwards_gather(header.index)) {
        forward(header, header.hop + 1u, packed ? payload : final, header.bytes, packed ? keep : nullptr, arrived_packed);
    }
}

// -------------------------------------------------------------------------------------------------------------------- sending --

void RingOp::inject(OutFrame &frame) {
    const std::size_t block = plan_.first_block();
    const Span span = plan_.chunk(block, injected_);
    frame.header = header(plan_.reduces() ? FrameKind::reduce_chunk : FrameKind::gather_chunk);
    frame.header.index = static_cast<std::uint32_t>(block);
    frame.header.aux = static_cast<std::uint32_t>(injected_);
    carry_own(frame, span, partial_bytes(0, span.count), pool_);
    if (!plan_.reduces()) keep_own(frame, span);
    ++injected_;
}

/// A final chunk that the successor lacks.
void RingOp::hand_on(OutFrame &frame) {
    const std::size_t index = handing_on_[handed_on_++];
    const Span span = lacking_[index].span;
    frame.header = header(FrameKind::gather_chunk);
    frame.header.index = static_cast<std::uint32_t>(plan_.members());
    frame.header.aux = static_cast<std::uint32_t>(index);
    frame.header.bytes = static_cast<std::uint32_t>(span.count * element_bytes_);
    frame.payload = request_.place(span.begin);
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
    if (!plan_.reduces() || sent.index >= plan_.members() || sent.aux >= plan_.chunks(sent.index)) return {};
    const Span span = plan_.chunk(sent.index, sent.aux);
    if (sent.bytes != partial_bytes(sent.hop, span.count)) return {};
    const std::size_t chunk = chunk_index(sent);
    if (marks_[chunk] & kFinalIn) return {};  // then the successor has what it asks for
    if (sent.hop == 0) {
        if (sent.index != plan_.first_block() || sent.aux >= injected_) return {};
        return quantized() ? Source{Source::Memory::gone} : Source{Source::Memory::sendbuff, own(chunk, span.begin)};
    }
    if (sent.hop != plan_.reduce_arrival(sent.index) || sent.index == plan_.own_block() || !(marks_[chunk] & kPartialIn)) return {};
    return marks_[chunk] & kPlaced ? Source{Source::Memory::recvbuff, request_.place(span.begin)} : Source{Source::Memory::gone};
}

Source RingOp::source_of_final(const FrameHeader &sent) const {
    const bool lacking = of_lacking(sent);
    if (lacking ? sent.aux >= lacking_.size() : !plan_.gathers() || sent.index >= plan_.members() || sent.aux >= plan_.chunks(sent.index)) return {};
    const Span span = span_of(sent);
    if (sent.bytes != payload_bytes(sent, span.count) || (!lacking && sent.hop != plan_.gather_arrival(sent.index))) return {};
    const bool injects = !lacking && !plan_.reduces() && sent.index == plan_.first_block();
    const bool held = marks_[chunk_index(sent)] & kFinalIn || (lacking && lacking_[sent.aux].held[plan_.rank()]);
    if (injects ? sent.aux >= injected_ : !held) return {};
    if (quantized() && !lacking) return {Source::Memory::gone};
    return injects ? Source{Source::Memory::sendbuff, request_.sent(span.begin)} : Source{Source::Memory::recvbuff, request_.place(span.begin)};
}

RingOp::Next RingOp::next() const {
    constexpr std::size_t kNever = SIZE_MAX;
    const std::size_t forwarding = outbox_.empty() ? kNever : outbox_.begin()->first;
    const std::size_t injecting = injected_ < plan_.chunks(plan_.first_block()) ? plan_.turn(!plan_.reduces(), 0, injected_, apart_) : kNever;
    const std::size_t handing = handed_on_ < handing_on_.size() ? handing_on_[handed_on_] : kNever;
    if (handing != kNever && handing <= std::min(forwarding, injecting)) return Next::hand_on;
    if (forwarding != kNever && forwarding <= injecting) return Next::forward;
    return injecting == kNever ? Next::nothing : Next::inject;
}

std::size_t RingOp::next_bytes(Next next) const {
    switch (next) {
    case Next::nothing: break;
    case Next::forward: return outbox_.begin()->second.header.bytes;
    case Next::inject: return partial_bytes(0, plan_.chunk(plan_.first_block(), injected_).count);
    case Next::hand_on: return lacking_[handing_on_[handed_on_]].span.count * element_bytes_;
    }
    return 0;
}

void RingOp::posted_at(Link &link) {
    if (link.other() != successor_) return;
    successor_posted_ = true;
    link.eager_sent -= std::min(link.eager_sent, std::exchange(eager_bytes_, 0));
}

bool RingOp::produce(Link &link, OutFrame &frame) {
    if (link.other() != successor_) return false;
    const Next what = next();
    if (what == Next::nothing) return false;
    const bool eager = !successor_posted_;
    if (eager && link.eager_sent + next_bytes(what) > link.eager_budget()) return false;
    if (what == Next::inject) inject(frame);
    if (what == Next::hand_on) hand_on(frame);
    if (what == Next::forward) {
        frame = std::move(outbox_.begin()->second);
        outbox_.erase(outbox_.begin());
    }
    if (eager) {
        link.eager_sent += frame.header.bytes;
        eager_bytes_ += frame.header.bytes;
    }
    request_.tx_bytes += wire::kFrameHeaderBytes + frame.header.bytes;
    return true;
}

}  // namespace pccl::peer
