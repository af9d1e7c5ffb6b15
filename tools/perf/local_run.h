// A run on one machine: an embedded master and child processes. Each child runs this program as one peer.
#pragma once

#include "perf/options.h"

namespace pccl::perf {

/// Returns the exit status of the process, which is the highest of the children. The children receive `argv`.
int run_local(const Options &options, int argc, char **argv);

}  // namespace pccl::perf
