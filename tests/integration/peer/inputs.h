// Inputs of a test's reduces, by description, and the check of results. Every peer can compute every rank's input.
//
//   seeded            as in pccl-perf: every type and operator, checked element by element
//   constant:V        every element V at every rank
//   normal:MEAN,SD    normally distributed
//   heavy:SD,SPREAD   normally distributed, times one lognormal factor each: gradients have such tails
//   uniform:LO,HI     uniformly distributed
//   nonfinite         seeded, with NaN, +inf and -inf at known places of rank 0
#pragma once

#include "common/check.h"

#include <cstdint>
#include <string>

namespace pccl::itest {

void fill_input(const std::string &pattern, const tools::Case &what, int rank, void *out);

/// Checks a result. For patterns other than `seeded` the verdict has only the relative error and the elements that are not
/// finite.
tools::Verdict check_result(const std::string &pattern, const tools::Case &what, const void *result);

/// A hash of bytes. Equal bytes have equal hashes on every peer.
std::uint64_t hash_bytes(const void *data, std::size_t bytes);

}  // namespace pccl::itest
