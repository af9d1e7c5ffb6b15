// The compressed form of a payload, shared by the frames with that payload. I/O thread only.
#pragma once

#include <cstdint>
#include <memory>

#include "base/time.h"
#include "wire/frame.h"

namespace pccl::peer {

/// The memory of a frame's payload. The deleter returns it to its pool.
using Buffer = std::shared_ptr<std::byte[]>;

struct Packed {
    Buffer bytes;                ///< the plain length and the compressed bytes. Null: not compressed, or not shorter
    std::uint32_t length = 0;    ///< of `bytes`
    std::uint64_t checksum = 0;  ///< of `bytes`
    std::uint8_t planes = 0;
    bool tried = false;  ///< pack() has been called
};
using PackedPtr = std::shared_ptr<Packed>;

/// Returns at least `bytes` bytes of this thread's pool for compressed payloads.
Buffer packed_memory(std::size_t bytes);

/// Compresses `plain` into `packed`, and keeps the result only if it is at least 1/32 shorter. Returns the CPU time that it took.
Duration pack(Packed &packed, const std::byte *plain, std::size_t bytes, unsigned planes);

/// Returns the plain length that a compressed payload begins with.
std::uint32_t plain_length(const std::byte *packed);

/// Returns false if the payload is not the compressed form of exactly `bytes` bytes.
[[nodiscard]] bool unpack(std::byte *plain, std::size_t bytes, const std::byte *packed, std::size_t length, unsigned planes);

/// Returns the wall-clock time that this thread has spent in pack() and unpack().
Duration time_in_codec();

}  // namespace pccl::peer
