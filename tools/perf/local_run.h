// A run on this machine alone: an embedded master and child processes, each this program again as one peer.
#pragma once

#include "perf/options.h"

namespace pccl::perf {

/// Exit status of the process: the worst of the children's. `argv` is this process's, handed on to the children.
int run_local(const Options &options, int argc, char **argv);

}  // namespace pccl::perf
