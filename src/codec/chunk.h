// Lossless compression of a chunk: its byte planes, one after the other, with zstd at its first level. Each thread keeps its
// planes and zstd contexts for its next call.
//
// decompress() accepts any input, including hostile input. It writes only within `out`, and allocates at most `bytes` and the
// size of the contexts.
#pragma once

#include <cstddef>

namespace pccl::codec {

/// Returns the compressed length, or 0 if it does not fit in `room`. `planes`: the size of an element (1, 2, 4 or 8), 1 for bytes
/// as they are. The buffers do not overlap. Throws std::bad_alloc.
std::size_t compress(std::byte *out, std::size_t room, const std::byte *in, std::size_t bytes, unsigned planes);

/// Returns whether `in` was the output of compress() for exactly `bytes` bytes, which are then in `out`. Otherwise `out` is
/// undefined. Throws std::bad_alloc.
[[nodiscard]] bool decompress(std::byte *out, std::size_t bytes, const std::byte *in, std::size_t length, unsigned planes);

}  // namespace pccl::codec
