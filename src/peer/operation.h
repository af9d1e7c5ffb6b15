// One collective operation at one member, with any algorithm: takes received frames, combines them and produces the frames to
// send. I/O thread only.
//
// The engine creates an operation when its call is posted, feeds it the frames of its partners and ends it when the group has
// committed or failed it. The links pull frames from it (Producer).
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "peer/buffer_pool.h"
#include "peer/link.h"
#include "peer/request.h"

namespace pccl::peer {

/// The result of receiving a chunk.
enum class Received {
    part,
    last,     ///< this member now holds the whole result
    damaged,  ///< the checksum is wrong. Only for chunks whose Intake has `taker_checks`. The chunk counts as not received
};

/// The memory that the payload of a sent frame came from.
struct Source {
    enum class Memory {
        none,      ///< this frame was not sent
        gone,      ///< memory of the library that has been reused
        library,   ///< memory of the library: the program does not write to it
        sendbuff,  ///< the caller's send buffer
        recvbuff,  ///< the caller's receive buffer
    } memory = Memory::none;
    const std::byte *bytes = nullptr;
};

/// The phase that a chunk of this kind belongs to. Kinds other than gather_chunk belong to the reduction.
constexpr op::Phase phase_of(wire::FrameKind kind) {
    return kind == wire::FrameKind::gather_chunk ? op::Phase::gather_from_owner : op::Phase::reduce_to_owner;
}
constexpr wire::FrameKind chunk_kind(op::Phase phase) {
    return phase == op::Phase::gather_from_owner ? wire::FrameKind::gather_chunk : wire::FrameKind::reduce_chunk;
}

/// A member that an operation sends frames to. Until it has posted the operation, frames to it need the link's eager credit.
class Partner {
public:
    /// Returns true if a frame of this size may be sent now, and takes the credit that it needs.
    [[nodiscard]] bool admit(Link &link, std::size_t bytes) {
        if (posted_) return true;
        if (!link.eager_credit().take(bytes, link.eager_budget())) return false;
        eager_bytes_ += bytes;
        return true;
    }
    /// The partner has posted the operation: its credit returns to the link.
    void posted(Link &link) {
        if (std::exchange(posted_, true)) return;
        link.eager_credit().give_back(std::exchange(eager_bytes_, 0));
    }

private:
    bool posted_ = false;
    std::size_t eager_bytes_ = 0;
};

class Operation : public Producer {
public:
    /// `request` outlives the operation. `spec_hash` goes with every chunk, so chunks of members whose specs differ are never
    /// combined.
    Operation(OpId id, ReduceRequest &request, std::uint64_t spec_hash, std::vector<PeerId> ring)
        : id_(id), request_(request), spec_hash_(spec_hash), ring_(std::move(ring)) {}

    OpId id() const { return id_; }
    const op::OperationSpec &spec() const { return request_.spec; }
    ReduceRequest &request() { return request_; }
    const ReduceRequest &request() const { return request_; }
    std::uint64_t spec_hash() const { return spec_hash_; }

    /// Returns why this chunk from `from` is invalid now, or null if it is valid.
    virtual const char *reject_reason(PeerId from, const wire::FrameHeader &header) const = 0;
    /// Returns where the payload of a valid chunk goes.
    virtual Intake prepare_receive(const wire::FrameHeader &header) = 0;
    /// The payload of a valid chunk has arrived.
    virtual Received receive(const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) = 0;
    /// Returns the memory that the payload of the chunk with this header came from when it was sent to `to`.
    virtual Source source(PeerId to, const wire::FrameHeader &sent) const = 0;
    virtual bool finished() const = 0;
    /// The members whose frames are missing here. Empty once finished.
    virtual std::vector<PeerId> waits_for() const = 0;
    /// Writes the final ranges of the receive buffer, and the number of contributors to each, to the request.
    virtual void record_finals() {
        if (finished()) request_.finals = {{0, spec().count, request_.world}};
    }
    /// The operation will continue in another epoch and has been detached from all links. In place, elements that are not final
    /// get their input back. This default keeps no final element: the operation restarts.
    virtual void suspend_for_repair() {
        if (request_.in_place()) request_.undo.put_back();
        request_.finals.clear();
    }
    /// The operation is committed and sends nothing more. Writes the elements of the receive buffer that depend on no other
    /// member.
    virtual void finish_local() {}
    /// The other side of the link has posted the operation, so frames to it need no credit.
    virtual void posted_at(Link &link) = 0;
    /// After a chunk from `from`: wakes the links that have new frames to send. False: only the link to the successor can have
    /// some.
    virtual bool wake_senders(Link & /*from*/) { return false; }

    void sent_smaller(std::size_t bytes) override {
        request_.tx_bytes -= bytes;
        request_.tx_saved += bytes;
    }

    bool reported = false;     ///< the host knows that it has finished or failed
    bool spoiled = false;      ///< it failed because the program changed or freed one of its buffers
    PackedPtr arrived_packed;  ///< the compressed form of the chunk given to receive(); null if it was sent plain

protected:
    wire::FrameHeader header(wire::FrameKind kind) const {
        wire::FrameHeader header;
        header.kind = kind;
        header.epoch = id_.epoch.value;
        header.tag = id_.tag.value;
        header.seq = id_.seq;
        header.offset = spec_hash_;
        return header;
    }

    /// The rank of a member, or the number of members if `peer` is none.
    std::size_t rank_of(PeerId peer) const { return static_cast<std::size_t>(std::ranges::find(ring_, peer) - ring_.begin()); }

    /// The byte planes that compression splits a payload of this type into: the size of an element, or 1 for quantized payloads.
    std::uint8_t planes(op::Type type) const { return static_cast<std::uint8_t>(quantized() ? 1 : op::size_of(type)); }

    bool quantized() const { return spec().quantized(); }

    /// Sets the payload of a frame to this member's input of the span, plain or quantized. It has `bytes` bytes.
    void fill_from_own(OutFrame &frame, op::Span span, std::size_t bytes, BufferPool &pool) const;
    /// In a collective that only gathers: writes this member's own chunk to the receive buffer, with the values that the others
    /// receive. `frame` comes from fill_from_own().
    void store_own_chunk(const OutFrame &frame, op::Span span);

    OpId id_;
    ReduceRequest &request_;
    std::uint64_t spec_hash_;
    const std::vector<PeerId> ring_;  ///< the members by rank
};

}  // namespace pccl::peer
