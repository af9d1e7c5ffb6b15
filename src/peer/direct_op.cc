// See direct_op.h.
#include "peer/direct_op.h"

#include <algorithm>

#include "kernel/hash.h"
#include "kernel/reduce.h"

namespace pccl::peer {

using op::Span;
using wire::FrameHeader;
using wire::FrameKind;

DirectOp::DirectOp(OpId id, ReduceRequest &request, std::uint64_t spec_hash, const std::vector<PeerId> &ring, std::size_t rank,
                   const collective::DirectPlan &plan, BufferPool &pool)
    : Operation(id, request, spec_hash, ring), rank_(rank), plan_(plan), element_bytes_(op::size_of(request.spec.type)),
      pool_(pool), members_(ring.size()) {
    request_.world = static_cast<std::uint32_t>(ring.size());
    request_.algorithm = op::Algorithm::direct;
    request_.chunk_elements = plan_.max_piece_elements();
    for (Member &member : members_)
        member.missing = plan_.pieces();
    members_[rank].missing = 0;
    members_[rank].sent = plan_.pieces();
    copy_ = pool_.get(request_.bytes());
    request_.send.copy_to(copy_.get(), 0, request_.bytes());
    for (std::size_t i = 0; i < plan_.pieces(); ++i) {
        const Span span = plan_.piece(i);
        checksums_.push_back(kernel::checksum(contribution(rank_) + span.begin * element_bytes_, span.count * element_bytes_));
    }
}

const std::byte *DirectOp::contribution(std::size_t rank) const {
    return rank == rank_ ? copy_.get() : members_[rank].contribution.get();
}

const char *DirectOp::reject_reason(PeerId from, const FrameHeader &header) const {
    if (header.kind != FrameKind::direct_chunk) return "a chunk of a ring in a direct exchange";
    if (header.index >= ring_.size() || ring_[header.index] != from) return "a contribution under another member's rank";
    if (header.chunk() >= plan_.pieces()) return "a piece that does not exist";
    const Member &member = members_[header.index];
    if (member.missing == 0 || (!member.arrived.empty() && member.arrived[header.chunk()]))
        return "a contribution that it sent before";
    if (header.bytes != plan_.piece(header.chunk()).count * element_bytes_) return "a contribution of the wrong length";
    return nullptr;
}

/// Returns the memory for a piece of another member's contribution.
std::byte *DirectOp::place(Member &member, std::size_t piece) {
    if (!member.contribution) member.contribution = pool_.get(request_.bytes());
    return member.contribution.get() + plan_.piece(piece).begin * element_bytes_;
}

Intake DirectOp::prepare_receive(const FrameHeader &header) {
    Member &member = members_[header.index];
    std::byte *const into = place(member, header.chunk());
    return {Intake::Action::take, into, member.contribution, nullptr, ""};
}

Received DirectOp::receive(const FrameHeader &header, std::byte *payload, const Buffer &) {
    Member &member = members_[header.index];
    request_.rx_bytes += wire::kFrameHeaderBytes + header.bytes;
    std::byte *const into = place(member, header.chunk());
    if (payload != into) std::memcpy(into, payload, header.bytes);  // it arrived before the operation was posted
    member.arrived.resize(plan_.pieces());
    member.arrived[header.chunk()] = true;
    if (--member.missing > 0 || ++arrived_ < ring_.size()) return Received::part;
    combine_all();
    return Received::last;
}

/// Computes ((c0 op c1) op c2) ... with the contributions in the order of the ring.
void DirectOp::combine_all() {
    const Buffer sum = pool_.get(spec().count * op::size_of(op::accumulator(spec().type, spec().op)));
    kernel::widen(spec().type, spec().op, sum.get(), contribution(0), spec().count);
    for (std::size_t r = 1; r < ring_.size(); ++r) {
        kernel::combine({spec().type, spec().op, false, true}, sum.get(), sum.get(), contribution(r), spec().count);
    }
    if (request_.in_place()) request_.undo.save(0, request_.bytes());
    kernel::finish(spec().type, spec().op, request_.output(0), sum.get(), spec().count, static_cast<std::uint32_t>(ring_.size()));
}

std::vector<PeerId> DirectOp::waits_for() const {
    std::vector<PeerId> missing;
    for (std::size_t r = 0; r < ring_.size(); ++r) {
        if (r != rank_ && members_[r].missing > 0) missing.push_back(ring_[r]);
    }
    return missing;
}

void DirectOp::posted_at(Link &link) {
    const std::size_t rank = rank_of(link.other());
    if (rank < members_.size()) members_[rank].partner.posted(link);
}

Source DirectOp::source(PeerId to, const FrameHeader &sent) const {
    const std::size_t other = rank_of(to);
    if (other >= members_.size() || sent.kind != FrameKind::direct_chunk || sent.index != rank_ ||
        sent.chunk() >= members_[other].sent)
        return {};
    const Span span = plan_.piece(sent.chunk());
    if (sent.bytes != span.count * element_bytes_) return {};
    return {Source::Memory::library, copy_.get() + span.begin * element_bytes_};
}

bool DirectOp::produce(Link &link, OutFrame &frame) {
    const std::size_t rank = rank_of(link.other());
    if (rank >= members_.size() || members_[rank].sent == plan_.pieces()) return false;
    Member &member = members_[rank];
    const Span span = plan_.piece(member.sent);
    const std::size_t bytes = span.count * element_bytes_;
    if (!member.partner.admit(link, bytes)) return false;
    frame.header = header(FrameKind::direct_chunk);
    frame.header.index = static_cast<std::uint32_t>(rank_);
    frame.header.aux = static_cast<std::uint32_t>(member.sent);
    frame.header.bytes = static_cast<std::uint32_t>(bytes);
    frame.header.checksum = checksums_[member.sent];
    frame.planes = planes(spec().type);
    frame.payload = contribution(rank_) + span.begin * element_bytes_;
    frame.keep = copy_;
    frame.owner = nullptr;
    ++member.sent;
    request_.tx_bytes += wire::kFrameHeaderBytes + bytes;
    return true;
}

}  // namespace pccl::peer
