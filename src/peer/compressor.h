// Compresses the chunks that a link sends, if its gate finds that this saves time. I/O thread only.
#pragma once

#include "peer/compression_gate.h"
#include "peer/lane.h"

namespace pccl::peer {

class Compressor {
public:
    explicit Compressor(Compression mode) : gate_(mode) {}

    /// The link is up. Inside one machine compression saves no time: it stays off unless the user has set it to on.
    void begin(Compression mode, Duration round_trip, bool inside_machine) {
        gate_ = CompressionGate(mode == Compression::automatic && inside_machine ? Compression::off : mode, round_trip);
    }
    bool measures() const { return gate_.measures(); }
    /// Fills in `work.saved` and `work.codec`.
    void observe(Time now, LinkWork work);

    /// Compresses the payload of the frame, if that is allowed and the gate is open. Returns the bytes saved.
    std::size_t pack(OutFrame &frame);

private:
    CompressionGate gate_;
    std::uint64_t saved_ = 0;
};

}  // namespace pccl::peer
