// Combines received data and computes the checksums of input and result piece by piece, while each piece is in the first-level
// cache, so that checksums need no separate pass over the data.
#pragma once

#include "kernel/hash.h"
#include "kernel/reduce.h"

namespace pccl::kernel {

struct Seals {
    std::uint64_t in = 0;   ///< checksum of `a` before the call
    std::uint64_t out = 0;  ///< checksum of `out` after the call
};

/// As combine(), and returns the checksums of the input and of the result. `out` may be `a`.
Seals combine_checked(const Combine &how, void *out, const void *a, const void *b, std::size_t count);

/// As combine() followed by finish(): `out` has `how.type`. It must not be `a`.
Seals combine_and_finish_checked(const Combine &how, void *out, const void *a, const void *b, std::size_t count,
                                 std::uint32_t divisor);

}  // namespace pccl::kernel
