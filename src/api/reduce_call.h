// The common part of the calls of all collectives: parses their arguments, performs or launches them, and reports their outcome.
#pragma once

#include <cstdint>

#include <pccl/pccl.h>

#include "api/comm.h"
#include "base/result.h"
#include "peer/request.h"

namespace pccl::api {

/// The parsed arguments of a call.
struct ParsedReduce {
    Tag tag;
    peer::ReduceRequest request;
};

/// Parses the arguments of an all-reduce without its buffers. `descriptor` must not be NULL. `options` NULL means the defaults.
Result<ParsedReduce> parse_reduce(const pcclReduceDescriptor_t *descriptor, const pcclReduceOptions_t *options);
/// Returns an error if the report cannot be filled in. It may be NULL.
Status check(const pcclReduceReport_t *report);
/// Returns an error unless `communicator` is connected.
Status check(const pcclComm_t *communicator);

/// Waits for an operation. If it failed in place, restores the buffer.
pcclResult_t await_reduce(const peer::CallPtr &call);
/// Fills in the fields that the caller's version of the header has. `info` and `report` may be NULL.
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
