// The outcome of a call of this layer: a status code and, after a failure, the text for pcclGetLastError.
#pragma once

#include <string>
#include <utility>

#include <pccl/status.h>

namespace pccl::train {

struct [[nodiscard]] Outcome {
    pcclResult_t code = pcclSuccess;
    std::string why;

    bool ok() const { return code == pcclSuccess; }
};

/// The outcome of the last call of pccl.h that this thread made. `call` is its name.
Outcome outcome_of(pcclResult_t code, const char *call);

inline Outcome invalid(std::string why) { return {pcclInvalidArgument, std::move(why)}; }

}  // namespace pccl::train

/// Returns from the function if the expression's outcome is a failure.
#define PCCL_TRAIN_TRY(expression)                                                                                               \
    do {                                                                                                                         \
        if (auto outcome_ = (expression); !outcome_.ok()) return outcome_;                                                       \
    } while (false)
