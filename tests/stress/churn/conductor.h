// Starts trainers, kills, stops and replaces them at random, and watches that the run goes on.
#pragma once

#include "churn/options.h"

namespace pccl::churn {

/// Runs for the time asked for and prints the report. Exit status of the process: 0 without hangs, wrong sums and crashes.
int conduct(const Options &options);

/// The separate master process: prints its port and serves until SIGTERM.
int serve_master(const Options &options);

}  // namespace pccl::churn
