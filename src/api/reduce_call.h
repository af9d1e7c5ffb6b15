// Shared by all-reduce, reduce-scatter and all-gather: parses the arguments, launches and awaits the operation, fills the report.
#pragma once

#include <cstdint>

#include <pccl/pccl.h>

#include "api/comm.h"
#include "base/result.h"
#include "peer/request.h"

namespace pccl::api {

/// An operation that a caller requests, after its arguments were checked.
struct ParsedReduce {
    Tag tag;
    peer::ReduceRequest request;
};

/// Parses an operation on a whole buffer and leaves its buffers unset. A `descriptor` of NULL is an error; `options` of NULL are
/// the defaults.
Result<ParsedReduce> parse_reduce(const pcclReduceDescriptor_t *descriptor, const pcclReduceOptions_t *options);
/// Returns an error if `struct_size` of the report is not set. A report of NULL is valid.
Status check(const pcclReduceReport_t *report);
/// Returns an error if `communicator` is NULL or not connected.
Status check(const pcclComm_t *communicator);

/// Waits for an operation. If it failed, restores the elements that it has overwritten.
pcclResult_t await_reduce(const peer::CallPtr &call);
/// Fills the fields that the caller's header has. NULL: does nothing.
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
