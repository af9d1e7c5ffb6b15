#include "peer/direct_op.h"

#include <algorithm>

#include "kernel/hash.h"
#include "kernel/reduce.h"

namespace pccl::peer {

using op::Span;
using wire::FrameHeader;
using wire::FrameKind;

DirectOp::DirectOp(OpId id, ReduceRequest &request, std::uint64_t fingerprint, const std::vector<PeerId> &ring, std::size_t rank,
                   const collective::DirectPlan &plan, BufferPool &pool)
    : Operation(id, request, fingerprint), ring_(ring), rank_(rank), plan_(plan), element_bytes_(op::size_of(request.what.type)),
      pool_(pool), members_(ring.size()) {
    request_.world = static_cast<std::uint32_t>(ring.size());
    request_.algorithm = op::Algorithm::direct;
    request_.chunk_elements = plan_.max_piece_elements();
    for (Member &member : members_) member.missing = plan_.pieces();
    members_[rank].missing = 0;
    members_[rank].sent = plan_.pieces();
    copy_ = pool_.get(request_.bytes());
    std::memcpy(copy_.get(), request_.send, request_.bytes());
    for (std::size_t i = 0; i < plan_.pieces(); ++i) {
        const Span span = plan_.piece(i);
        checksums_.push_back(kernel::checksum(contribution(rank_) + span.begin * element_bytes_, span.count * element_bytes_));
    }
}

std::size_t DirectOp::rank_of(PeerId peer) const {
    return static_cast<std::size_t>(std::ranges::find(ring_, peer) - ring_.begin());
}

const std::byte *DirectOp::contribution(std::size_t rank) const {
    return rank == rank_ ? copy_.get() : members_[rank].contribution.get();
}

const char *DirectOp::objection(PeerId from, const FrameHeader &header) const {
    if (header.kind != FrameKind::direct_chunk) return "a chunk of a ring in a direct exchange";
    if (header.index >= ring_.size() || ring_[header.index] != from) return "a contribution under another's name";
    if (header.aux >= plan_.pieces()) return "a piece that does not exist";
    const Member &member = members_[header.index];
    if (member.missing == 0 || (!member.arrived.empty() && member.arrived[header.aux])) return "a contribution that came before";
    if (header.bytes != plan_.piece(header.aux).count * element_bytes_) return "a contribution of the wrong length";
    return nullptr;
}

/// Where a piece of another's contribution goes.
std::byte *DirectOp::place(Member &member, std::size_t piece) {
    if (!member.contribution) member.contribution = pool_.get(request_.bytes());
    return member.contribution.get() + plan_.piece(piece).begin * element_bytes_;
}

Intake DirectOp::intake(const FrameHeader &header) {
    Member &member = members_[header.index];
    std::byte *const into = place(member, header.aux);
    return {Intake::Action::take, into, member.contribution, nullptr, ""};
}

Received DirectOp::receive(const FrameHeader &header, std::byte *payload, const Buffer &) {
    Member &member = members_[header.index];
    request_.rx_bytes += wire::kFrameHeaderBytes + header.bytes;
    std::byte *const into = place(member, header.aux);
    if (payload != into) std::memcpy(into, payload, header.bytes);  // it came before the operation was posted
    member.arrived.resize(plan_.pieces());
    member.arrived[header.aux] = true;
    if (--member.missing > 0 || ++arrived_ < ring_.size()) return Received::part;
    combine_all();
    return Received::last;
}

/// ((c0 op c1) op c2) ..., the contributions in ring order.
void DirectOp::combine_all() {
    const auto &what = request_.what;
    const Buffer sum = pool_.get(what.count * op::size_of(op::accumulator(what.type, what.op)));
    kernel::widen(what.type, what.op, sum.get(), contribution(0), what.count);
    for (std::size_t r = 1; r < ring_.size(); ++r) {
        kernel::combine({what.type, what.op, false, true}, sum.get(), sum.get(), contribution(r), what.count);
    }
    if (request_.in_place()) request_.undo.save(0, request_.bytes());
    kernel::finish(what.type, what.op, request_.recv, sum.get(), what.count, static_cast<std::uint32_t>(ring_.size()));
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
    if (rank >= members_.size() || members_[rank].posted) return;
    members_[rank].posted = true;
    link.eager_sent -= std::min(link.eager_sent, members_[rank].eager_bytes);
}

Source DirectOp::source(PeerId to, const FrameHeader &sent) const {
    const std::size_t other = rank_of(to);
    if (other >= members_.size() || sent.kind != FrameKind::direct_chunk || sent.index != rank_ || sent.aux >= members_[other].sent) return {};
    const Span span = plan_.piece(sent.aux);
    if (sent.bytes != span.count * element_bytes_) return {};
    return {Source::Memory::library, copy_.get() + span.begin * element_bytes_};
}

bool DirectOp::produce(Link &link, OutFrame &frame) {
    const std::size_t rank = rank_of(link.other());
    if (rank >= members_.size() || members_[rank].sent == plan_.pieces()) return false;
    Member &member = members_[rank];
    const Span span = plan_.piece(member.sent);
    const std::size_t bytes = span.count * element_bytes_;
    if (!member.posted) {
        if (link.eager_sent + bytes > link.eager_budget()) return false;
        link.eager_sent += bytes;
        member.eager_bytes += bytes;
    }
    frame.header = header(FrameKind::direct_chunk);
    frame.header.index = static_cast<std::uint32_t>(rank_);
    frame.header.aux = static_cast<std::uint32_t>(member.sent);
    frame.header.bytes = static_cast<std::uint32_t>(bytes);
    frame.header.checksum = checksums_[member.sent];
    frame.planes = planes(request_.what.type);
    frame.payload = contribution(rank_) + span.begin * element_bytes_;
    frame.keep = copy_;
    frame.owner = nullptr;
    ++member.sent;
    request_.tx_bytes += wire::kFrameHeaderBytes + bytes;
    return true;
}

}  // namespace pccl::peer
