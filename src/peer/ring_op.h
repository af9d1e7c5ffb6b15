// One ring all-reduce at one member: takes chunks in, combines, hands chunks out. I/O thread only.
//
// The caller's send buffer is only read. A received partial result is combined with this member's contribution in the scratch buffer it
// arrived in and goes on from there, while it is in cache; where scratch is crowded (a successor that is slow or has not called), it
// goes to the place in the receive buffer that its final value will fill, so that memory stays bounded and reading never stops. The owner
// of a block finishes it once; final chunks are received straight into place. In-place calls save what they overwrite.
#pragma once

#include <deque>
#include <vector>

#include "collective/ring_plan.h"
#include "peer/buffer_pool.h"
#include "peer/link.h"
#include "peer/request.h"

namespace pccl::peer {

class RingOp final : public Producer {
public:
    /// `request` outlives the operation. `fingerprint` goes with every chunk, so that chunks of callers who disagree never meet.
    RingOp(OpId id, ReduceRequest &request, std::uint64_t fingerprint, std::size_t members, std::size_t rank, BufferPool &pool);

    OpId id() const { return id_; }
    const wire::Fingerprint &what() const { return request_.what; }
    ReduceRequest &request() { return request_; }
    std::uint64_t fingerprint() const { return fingerprint_; }

    /// Why this chunk cannot come now; null if it can.
    const char *objection(const wire::FrameHeader &header) const;
    /// Where the payload of a chunk goes to which there is no objection.
    Intake intake(const wire::FrameHeader &header);
    /// The payload of such a chunk is whole. True: the last chunk became final.
    bool receive(const wire::FrameHeader &header, std::byte *payload, const Buffer &keep);
    bool produce(Link &link, OutFrame &frame) override;

    /// The successor has posted the operation: bulk may flow.
    bool successor_ready = false;
    /// Bytes sent before that; they count until it is known that they are no longer held unposted.
    std::size_t take_eager() { return std::exchange(eager_bytes_, 0); }
    bool finished() const { return finals_ == total_chunks_; }
    bool reported = false;  ///< as finished, or as broken

private:
    /// What happened to a chunk so far.
    enum Mark : std::uint8_t { kPartialIn = 1, kFinalIn = 2, kSaved = 4 };

    std::size_t chunk_index(const wire::FrameHeader &header) const { return first_chunk_[header.index] + header.aux; }
    std::size_t payload_bytes(const wire::FrameHeader &header, std::size_t elements) const;
    std::size_t partial_bytes(std::size_t hop, std::size_t elements) const;
    bool quantized() const { return request_.what.quantization.algorithm != kernel::Quant::none; }
    const std::byte *own(std::size_t chunk, std::size_t element) const;
    void save(std::size_t chunk, collective::Span span);
    void forward(const wire::FrameHeader &header, std::size_t hop, const std::byte *payload, std::size_t bytes, Buffer keep);
    void combine_and_forward(const wire::FrameHeader &header, collective::Span span, std::byte *payload, const Buffer &keep);
    void complete_block_chunk(const wire::FrameHeader &header, collective::Span span, std::byte *payload, const Buffer &keep);
    void complete_quantized(const wire::FrameHeader &header, collective::Span span, std::byte *payload, const Buffer &keep);
    void take_final(const wire::FrameHeader &header, collective::Span span, std::byte *payload, const Buffer &keep);
    bool inject(OutFrame &frame);
    std::byte *temporary();

    OpId id_;
    ReduceRequest &request_;
    std::uint64_t fingerprint_;
    collective::RingPlan plan_;
    BufferPool &pool_;
    kernel::Type accumulator_;
    std::size_t element_bytes_, accumulator_bytes_;

    std::vector<std::size_t> first_chunk_;  ///< per block
    std::vector<std::uint8_t> marks_;       ///< per chunk
    std::size_t total_chunks_ = 0;
    std::size_t finals_ = 0;
    std::size_t injected_ = 0;              ///< chunks of the first block that have gone out
    std::size_t eager_bytes_ = 0;
    std::deque<OutFrame> outbox_;
    Buffer temporary_;
};

}  // namespace pccl::peer
