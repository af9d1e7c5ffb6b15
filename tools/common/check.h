// Inputs that every peer can compute for every rank, and the check of a result against double arithmetic on all inputs.
//
// Inputs repeat with a prime period that divides no chunk or block size, so that misplaced data are detected. The reference is
// computed for one period only, and a check takes one pass over the result.
#pragma once

#include "common/elements.h"

#include <pccl.h>

#include <cstddef>
#include <vector>

namespace pccl::tools {

/// The operation to check. `buffer` distinguishes concurrent operations.
struct Case {
    pcclDataType_t type;
    pcclRedOp_t op;
    Packing packing;
    std::size_t count;
    int ranks;
    int buffer;
};

/// Writes rank `rank`'s contribution, `count` elements.
void fill_input(const Case &what, int rank, void *out);

struct Verdict {
    std::size_t wrong = 0;  ///< elements outside the tolerance; with quantization all or none, according to the relative error
    double relative_error = 0;    ///< L2 norm of the error divided by that of the exact result
    std::size_t first_wrong = 0;  ///< index, if wrong > 0
    double expected = 0;          ///< the expected value at that index
    double found = 0;
};

/// Checks `result`, `count` elements.
Verdict check_result(const Case &what, const void *result);

}  // namespace pccl::tools
