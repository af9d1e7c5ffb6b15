// See compressor.h.
#include "peer/compressor.h"

#include "kernel/hash.h"

namespace pccl::peer {

namespace {

/// Shorter payloads are not compressed.
constexpr std::size_t kLeastBytes = 512;

}  // namespace

void Compressor::observe(Time now, LinkWork work) {
    work.saved = saved_;
    work.codec = time_in_codec();
    gate_.observe(now, work);
}

std::size_t Compressor::pack(OutFrame &frame) {
    const std::size_t plain = frame.header.bytes;
    if (frame.planes == 0 || plain < kLeastBytes) return 0;
    const bool state = frame.header.kind == wire::FrameKind::state_chunk || frame.header.kind == wire::FrameKind::post_chunk;
    const std::size_t kind = CompressionGate::kind_of(frame.planes, state);
    if (!gate_.may_want(kind)) return 0;
    const bool made = frame.packed && frame.packed->tried;
    if (made ? !gate_.open(kind) : !gate_.wants(kind, monotonic_now())) return 0;
    if (!frame.packed) frame.packed = std::make_shared<Packed>();
    Packed &packed = *frame.packed;
    if (!made) {
        const Duration took = peer::pack(packed, frame.payload, plain, frame.planes);
        // The frame then has the checksum of the packed bytes. If the program has changed its buffer since the frame was made,
        // the plain payload must be sent, so that the receiver finds the wrong checksum.
        if (packed.bytes && frame.owner && kernel::checksum(frame.payload, plain) != frame.header.checksum) packed.bytes.reset();
        gate_.learn(kind, plain, packed.bytes ? packed.length : plain, took, monotonic_now());
    }
    if (!packed.bytes) return 0;
    frame.header.planes = packed.planes;
    frame.header.bytes = packed.length;
    frame.header.checksum = packed.checksum;
    frame.payload = packed.bytes.get();
    frame.keep = packed.bytes;
    frame.owner = nullptr;
    saved_ += plain - packed.length;
    return plain - packed.length;
}

}  // namespace pccl::peer
