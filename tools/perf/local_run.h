// A run on one machine: an embedded master and child processes, each this program again as one peer.
#pragma once

#include "perf/options.h"

namespace pccl::perf {

/// Returns the exit status of the process: the worst of the children's. `argv` is passed on to the children.
int run_local(const Options &options, int argc, char **argv);

}  // namespace pccl::perf
