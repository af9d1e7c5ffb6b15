// Combining data that came over a wire, and sealing what goes on: checksums are computed piece by piece along with the combination,
// while each piece is in the nearest cache, and so cost no pass over the data of their own.
#pragma once

#include "kernel/hash.h"
#include "kernel/reduce.h"

namespace pccl::kernel {

struct Seals {
    std::uint64_t in = 0;   ///< checksum of `a` as it was
    std::uint64_t out = 0;  ///< of `out` as it became
};

/// combine(), with the checksums of what came and what resulted. `out` may be `a`.
Seals combine_checked(const Combine &how, void *out, const void *a, const void *b, std::size_t count);

/// combine() and finish() in one: `out` has `how.type`. It may not be `a`.
Seals combine_and_finish_checked(const Combine &how, void *out, const void *a, const void *b, std::size_t count, std::uint32_t divisor);

}  // namespace pccl::kernel
