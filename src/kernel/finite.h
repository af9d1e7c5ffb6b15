// Finds infinities and NaNs. It uses integer operations, so floating-point modes have no effect and nothing traps. Pure. Any
// alignment, any thread.
#pragma once

#include <cstddef>

#include "kernel/vocabulary.h"

namespace pccl::kernel {

/// The first of `count` elements that is not finite; `count` if all are. Integers are finite.
std::size_t first_not_finite(Type type, const void *data, std::size_t count);

}  // namespace pccl::kernel
