// One peer: joins, finds its rank, measures every case and checks it.
#pragma once

#include "perf/options.h"

namespace pccl::perf {

/// Returns the exit status of the process: 0, or 1 if results were wrong. Throws tools::CallFailed or std::runtime_error.
int run_peer(const Options &options);

}  // namespace pccl::perf
