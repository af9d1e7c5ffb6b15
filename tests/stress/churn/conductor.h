// Starts trainers, kills, stops and replaces them at random, and checks that the run continues.
#pragma once

#include "churn/options.h"

namespace pccl::churn {

/// Runs for the requested time and prints the report. Returns the exit status: 0 if there was no hang, wrong sum or crash.
int conduct(const Options &options);

/// The separate master process: prints its port and serves until SIGTERM.
int serve_master(const Options &options);

}  // namespace pccl::churn
