// One operation (all-reduce, reduce-scatter, all-gather) at one member, whatever its algorithm: takes frames in, combines, hands frames out. I/O thread only.
#pragma once

#include <cstdint>
#include <utility>

#include "peer/buffer_pool.h"
#include "peer/link.h"
#include "peer/request.h"

namespace pccl::peer {

/// What a chunk brought.
enum class Received {
    part,
    last,     ///< the whole result is held
    damaged,  ///< its checksum is wrong; found by an operation whose intake said that it checks. It counts as not received
};

/// The memory that the payload of a sent frame came from.
struct Source {
    enum class Memory {
        none,      ///< no such frame was sent
        gone,      ///< the library's, which has been used for something else since
        library,   ///< the library's: only it writes there
        sendbuff,  ///< the caller's
        recvbuff,  ///< likewise
    } memory = Memory::none;
    const std::byte *bytes = nullptr;
};

class Operation : public Producer {
public:
    /// `request` outlives the operation. `fingerprint` goes with every chunk, so that chunks of callers who disagree never meet.
    Operation(OpId id, ReduceRequest &request, std::uint64_t fingerprint) : id_(id), request_(request), fingerprint_(fingerprint) {}

    OpId id() const { return id_; }
    const op::OperationSpec &what() const { return request_.what; }
    ReduceRequest &request() { return request_; }
    const ReduceRequest &request() const { return request_; }
    std::uint64_t fingerprint() const { return fingerprint_; }

    /// Why this chunk cannot come now from `from`; null if it can.
    virtual const char *objection(PeerId from, const wire::FrameHeader &header) const = 0;
    /// Where the payload of a chunk goes to which there is no objection.
    virtual Intake intake(const wire::FrameHeader &header) = 0;
    /// The payload of such a chunk is here.
    virtual Received receive(const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) = 0;
    /// Where the payload of a chunk came from that was sent to `to` with this header.
    virtual Source source(PeerId to, const wire::FrameHeader &sent) const = 0;
    virtual bool finished() const = 0;
    /// Whose bytes are missing here; empty once finished.
    virtual std::vector<PeerId> waits_for() const = 0;
    /// Tells the request what is final in its receive buffer, and how many took part.
    virtual void record_finals() {
        if (finished()) request_.finals = {{0, request_.what.count, request_.world}};
    }
    /// The operation is to go on in another epoch, and has been detached from all links. What is not final in the receive buffer becomes
    /// what it was where that is the send buffer, too. This one keeps nothing: it begins anew.
    virtual void carry() {
        if (request_.in_place()) request_.undo.put_back();
        request_.finals.clear();
    }
    /// It is committed, and nothing more goes out: what this member owes its own receive buffer is put there.
    virtual void settle() {}
    /// The other side of the link has posted the operation: bulk may flow to it.
    virtual void posted_at(Link &link) = 0;
    /// After a chunk from `from`: makes links ask for what there is to send since. False: that can only be the successor's.
    virtual bool stir(Link & /*from*/) { return false; }

    void sent_smaller(std::size_t bytes) override {
        request_.tx_bytes -= bytes;
        request_.tx_saved += bytes;
    }

    bool reported = false;  ///< as finished, or as broken
    bool spoiled = false;   ///< the program changed or freed a buffer of it; reported as broken
    PackedPtr arrived_packed;  ///< what the chunk that receive() is given travelled as; null if as it is

protected:
    wire::FrameHeader header(wire::FrameKind kind) const {
        wire::FrameHeader header;
        header.kind = kind;
        header.epoch = id_.epoch.value;
        header.tag = id_.tag.value;
        header.seq = id_.seq;
        header.offset = fingerprint_;
        return header;
    }

    /// Of what this member's values travel as: the size of an element, 1 where they are packed.
    std::uint8_t planes(op::Type type) const { return static_cast<std::uint8_t>(quantized() ? 1 : op::size_of(type)); }

    bool quantized() const { return request_.what.quantization.algorithm != op::Quant::none; }

    /// Makes the payload of a frame this member's values of the span, as they are or quantized; `bytes` long.
    void carry_own(OutFrame &frame, op::Span span, std::size_t bytes, BufferPool &pool) const;
    /// Of an all-gather: this member's values of the span, as carry_own made them, go to their place in the receive buffer as the others
    /// will hold them.
    void keep_own(const OutFrame &frame, op::Span span);

    OpId id_;
    ReduceRequest &request_;
    std::uint64_t fingerprint_;
};

}  // namespace pccl::peer
