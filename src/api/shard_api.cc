// The C interface of reduce-scatter and all-gather. Checks arguments and calls peer::Runtime.
#include <pccl/pccl.h>

#include <cstddef>
#include <string>

#include "api/arguments.h"
#include "api/comm.h"
#include "api/reduce_call.h"
#include "api/state.h"
#include "collective/blocks.h"
#include "peer/shard.h"

namespace pccl::api {
namespace {

Status check(const pcclShard_t *shard, std::size_t count) {
    if (!shard) return invalid("shard is NULL");
    if (shard->membership == 0 || shard->world_size == 0 || shard->rank >= shard->world_size) {
        return invalid("shard is not set. Call pcclGetShard first");
    }
    const op::Span span = collective::Blocks(count, shard->world_size, collective::kShardUnit).of(shard->rank);
    if (shard->first != span.begin || shard->elements != span.count) {
        return invalid("shard does not belong to a buffer of descriptor->count = " + std::to_string(count) +
                       " elements. Call pcclGetShard with this count");
    }
    return {};
}

Result<ParsedReduce> sharded(op::Collective collective, const void *send, void *recv, const pcclReduceDescriptor_t *descriptor,
                             const pcclShard_t *shard, const pcclReduceOptions_t *options) {
    auto parsed = parse_reduce(descriptor, options);
    if (!parsed) return parsed;
    auto &request = parsed->request;
    if (const auto status = check(shard, request.spec.count); !status) return status.error();
    const auto &row = op::row_of(collective);
    request.spec.collective = collective;
    if (request.repairs() && !row.repairs)
        return invalid("options->on_peer_loss is pcclLossPolicyRepair, which only all-reduces support. Use pcclLossPolicyRetry");
    if (!request.spec.combines()) {
        if (request.spec.error_feedback)
            return invalid("options->error_feedback is set, but an " + std::string(row.name) +
                           " has no error feedback. Clear it");
        request.spec.op = {};
    }
    // An argument that covers an empty shard can be NULL.
    const bool empty = shard->elements == 0;
    if (!send && !(row.input == op::Extent::shard && empty)) return invalid("sendbuff is NULL");
    if (!recv && !(row.output == op::Extent::shard && empty)) return invalid("recvbuff is NULL");
    request.shard = {static_cast<std::size_t>(shard->first), static_cast<std::size_t>(shard->elements)};
    request.membership = shard->membership;
    request.set_buffers(send, recv);
    return parsed;
}

}  // namespace
}  // namespace pccl::api

using namespace pccl;
using namespace pccl::api;

extern "C" {

pcclResult_t pcclGetShard(const pcclComm_t *communicator, size_t count, pcclShard_t *shard_out) {
    return guarded_initialized([&] {
        if (!shard_out) return fail(invalid("shard_out is NULL"));
        if (count == 0) return fail(invalid("count is 0. Pass the elements of the whole buffer"));
        if (const auto status = check(communicator); !status) return fail(status.error());
        const auto membership = mutable_of(communicator)->runtime.group();
        if (membership.members.empty()) return fail(pcclInvalidUsage, "not connected. Call pcclConnect first");
        const auto shard = peer::shard_of(count, membership.members, membership.self);
        *shard_out = {shard.span.begin, shard.span.count, shard.membership, shard.members, shard.place};
        return pcclSuccess;
    });
}

pcclResult_t pcclReduceScatter(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                               const pcclShard_t *shard, const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                               pcclReduceReport_t *report) {
    return guarded_initialized([&] {
        if (const auto status = check(report); !status) return fail(status.error());
        return perform(sharded(op::Collective::reduce_scatter, sendbuff, recvbuff, descriptor, shard, options), communicator,
                       report);
    });
}

pcclResult_t pcclReduceScatterAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                    const pcclShard_t *shard, const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                    pcclAsyncReduceOp_t *reduce_handle_out) {
    return guarded_initialized([&] {
        return launch(sharded(op::Collective::reduce_scatter, sendbuff, recvbuff, descriptor, shard, options), communicator,
                      reduce_handle_out);
    });
}

pcclResult_t pcclAllGather(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                           const pcclShard_t *shard, const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                           pcclReduceReport_t *report) {
    return guarded_initialized([&] {
        if (const auto status = check(report); !status) return fail(status.error());
        return perform(sharded(op::Collective::all_gather, sendbuff, recvbuff, descriptor, shard, options), communicator, report);
    });
}

pcclResult_t pcclAllGatherAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                const pcclShard_t *shard, const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                pcclAsyncReduceOp_t *reduce_handle_out) {
    return guarded_initialized([&] {
        return launch(sharded(op::Collective::all_gather, sendbuff, recvbuff, descriptor, shard, options), communicator,
                      reduce_handle_out);
    });
}

}  // extern "C"
