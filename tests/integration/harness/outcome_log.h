// The logs that the peers' training loops write, and the check that they agree.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pccl::itest {

/// Outcomes of one peer in order: "ok FINGERPRINT MEMBERS" or "lost".
using OutcomeLog = std::vector<std::string>;

/// A last line that SIGKILL cut short is dropped.
OutcomeLog read_outcome_log(const std::string &path);

/// Whether two logs agree: from the first operation that succeeded at both, the same outcomes in the same order until either log
/// ends. The log of a killed peer can be shorter than the others but never different.
::testing::AssertionResult agree(const OutcomeLog &one, const OutcomeLog &other);

}  // namespace pccl::itest
