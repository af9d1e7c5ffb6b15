// The logs that the peers' training loops write, and the check that all tell the same story.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pccl::itest {

/// Outcomes of one peer in order: "ok FINGERPRINT MEMBERS" or "lost".
using OutcomeLog = std::vector<std::string>;

/// A last line that kill -9 cut short is dropped.
OutcomeLog read_outcome_log(const std::string &path);

/// Two logs, from the first operation that both saw succeed: the same outcomes in the same order until either ends. A peer that
/// is killed may have seen less than the others, never something else.
::testing::AssertionResult agree(const OutcomeLog &one, const OutcomeLog &other);

}  // namespace pccl::itest
