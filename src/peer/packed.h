// A payload as it travels compressed, shared by the frames that carry the same bytes. I/O thread only.
#pragma once

#include <cstdint>
#include <memory>

#include "base/time.h"
#include "wire/frame.h"

namespace pccl::peer {

/// Memory that a frame's payload lies in while it is on its way, returned to where it came from at the end.
using Buffer = std::shared_ptr<std::byte[]>;

struct Packed {
    Buffer bytes;                ///< the plain length, then what codec made of it. Null: none was made, or it would be no shorter
    std::uint32_t length = 0;    ///< of these
    std::uint64_t checksum = 0;  ///< of these
    std::uint8_t planes = 0;
    bool tried = false;  ///< to make it
};
using PackedPtr = std::shared_ptr<Packed>;

/// At least `bytes` of this thread's memory for payloads that travel compressed.
Buffer packed_memory(std::size_t bytes);

/// Tries to. It is worth sending if it is a thirty-second shorter. What it took of the processor, however much of that others
/// have.
Duration pack(Packed &packed, const std::byte *plain, std::size_t bytes, unsigned planes);

/// The plain length that such a payload says it has.
std::uint32_t plain_length(const std::byte *packed);

/// False: it is not what pack() makes of exactly `bytes` bytes.
[[nodiscard]] bool unpack(std::byte *plain, std::size_t bytes, const std::byte *packed, std::size_t length, unsigned planes);

/// What this thread has spent on both, by the clock.
Duration time_in_codec();

}  // namespace pccl::peer
