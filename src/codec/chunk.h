// A chunk made smaller without loss: its byte planes, one after the other, through zstd at its first level. Kernel's planes and zstd's
// contexts are kept by each thread for its next call.
//
// decompress() takes whatever a stranger may send: it writes within `out` alone, and allocates no more than `bytes` and what the
// contexts need, whatever the input says of itself.
#pragma once

#include <cstddef>

namespace pccl::codec {

/// The compressed length; 0: it would not fit in `room`. `planes`: the size of an element (1, 2, 4 or 8), 1 for bytes as they are.
/// The buffers do not overlap. Throws std::bad_alloc.
std::size_t compress(std::byte *out, std::size_t room, const std::byte *in, std::size_t bytes, unsigned planes);

/// Whether `in` was what compress() makes of exactly `bytes` bytes, which then are in `out`. If not, anything may be there.
/// Throws std::bad_alloc.
[[nodiscard]] bool decompress(std::byte *out, std::size_t bytes, const std::byte *in, std::size_t length, unsigned planes);

}  // namespace pccl::codec
