// What calls of all-reduces, reduce-scatters and all-gathers have in common: their arguments, made, launched and awaited.
#pragma once

#include <cstdint>

#include <pccl/pccl.h>

#include "api/comm.h"
#include "base/result.h"
#include "peer/request.h"

namespace pccl::api {

/// What a caller asks for.
struct ParsedReduce {
    Tag tag;
    peer::ReduceRequest request;
};

/// An operation on a whole buffer, without buffers. `descriptor` and `options` may be NULL: the one is an error, the other the
/// defaults.
Result<ParsedReduce> parse_reduce(const pcclReduceDescriptor_t *descriptor, const pcclReduceOptions_t *options);
/// Whether a report can be filled in. It may be NULL.
Status check(const pcclReduceReport_t *report);
/// An error, or null if there is none: `communicator` is connected.
Status check(const pcclComm_t *communicator);

/// Waits for an operation, and puts back what one that failed has overwritten.
pcclResult_t await_reduce(const peer::CallPtr &call);
/// As many fields as the caller's header had. NULL: nothing.
void fill(pcclReduceInfo_t *info, const peer::ReduceRequest &reduce);
void fill(pcclReduceReport_t *report, const peer::ReduceRequest &reduce);

template <class Out> pcclResult_t perform(const Result<ParsedReduce> &parsed, const pcclComm_t *communicator, Out *out) {
    if (!parsed) return fail(parsed.error());
    if (const auto status = check(communicator); !status) return fail(status.error());
    const peer::CallPtr call = mutable_of(communicator)->runtime.reduce(parsed->tag, parsed->request);
    const pcclResult_t result = await_reduce(call);
    fill(out, call->reduce);
    return result;
}

pcclResult_t launch(const Result<ParsedReduce> &parsed, const pcclComm_t *communicator, pcclAsyncReduceOp_t *handle);

}  // namespace pccl::api
