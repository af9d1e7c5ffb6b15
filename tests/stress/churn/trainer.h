// One trainer runs the typical loop. Its sums encode their contributors and are checked element by element.
//
// It reports lines on standard output:
//   joined                     admitted to the run
//   step REVISION HASH         a step is done; HASH is of the weights after it, equal at all members
//   wrong WORDS                a sum or the shared state is wrong
//   removed WORDS              the master removed it; it joins again
//   stuck WHERE                no step for a while, in that call
//   fatal WORDS                a code that must not occur here
#pragma once

#include "churn/options.h"

namespace pccl::churn {

/// Exit status of the process: 0 after SIGTERM.
int run_trainer(const Options &options);

}  // namespace pccl::churn
