// What a link does to chunks that it is about to send: makes them smaller where its gate says that this pays. I/O thread only.
#pragma once

#include "peer/compression_gate.h"
#include "peer/lane.h"

namespace pccl::peer {

class Compressor {
public:
    explicit Compressor(Compression mode) : gate_(mode) {}

    /// The link is there. Inside one machine nothing is won: it stays off unless the user wants it on.
    void begin(Compression mode, Duration round_trip, bool inside_machine) {
        gate_ = CompressionGate(mode == Compression::automatic && inside_machine ? Compression::off : mode, round_trip);
    }
    bool measures() const { return gate_.measures(); }
    /// `work.saved` and `work.codec` are filled in here.
    void observe(Time now, LinkWork work);

    /// Makes the frame carry its payload compressed, if it may be, and that is worth it. The bytes saved.
    std::size_t pack(OutFrame &frame);

private:
    CompressionGate gate_;
    std::uint64_t saved_ = 0;
};

}  // namespace pccl::peer
