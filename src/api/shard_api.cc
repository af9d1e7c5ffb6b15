// The C interface of reduce-scatters and all-gathers: checks arguments, and hands the rest to peer::Runtime.
#include <pccl/pccl.h>

#include <cstddef>
#include <string>

#include "api/arguments.h"
#include "api/comm.h"
#include "api/reduce_call.h"
#include "api/state.h"
#include "collective/blocks.h"
#include "peer/shard.h"

using pccl::Result;
using pccl::Status;
using pccl::api::Asked;
using pccl::api::check;
using pccl::api::fail;
using pccl::api::guarded_initialized;
using pccl::api::invalid;
using pccl::api::launch;
using pccl::api::mutable_of;
using pccl::api::perform;
using pccl::api::to_asked;
using pccl::collective::Blocks;
using pccl::collective::Span;
using pccl::op::Collective;

namespace {

Status check(const pcclShard_t *shard, std::size_t count) {
    if (!shard) return invalid("shard is NULL");
    if (shard->membership == 0 || shard->world_size == 0 || shard->rank >= shard->world_size) {
        return invalid("shard is not set: call pcclGetShard first");
    }
    const Span span = Blocks(count, shard->world_size, pccl::collective::kShardUnit).of(shard->rank);
    if (shard->first != span.begin || shard->elements != span.count) {
        return invalid("shard is not one of descriptor->count = " + std::to_string(count) + " elements: call pcclGetShard with this count");
    }
    return {};
}

Result<Asked> sharded(Collective collective, const void *send, void *recv, const pcclReduceDescriptor_t *descriptor, const pcclShard_t *shard,
                      const pcclReduceOptions_t *options) {
    auto asked = to_asked(descriptor, options);
    if (!asked) return asked;
    auto &request = asked->request;
    if (const auto status = check(shard, request.what.count); !status) return status.error();
    if (request.repairs()) return invalid("options->on_peer_loss is pcclLossPolicyRepair, which is for all-reduces: use pcclLossPolicyRetry");
    const bool gathers = collective == Collective::all_gather;
    if (gathers && request.what.error_feedback) return invalid("options->error_feedback is for sums and averages, not for an all-gather");
    const bool empty = shard->elements == 0;
    if (!send && !(gathers && empty)) return invalid("sendbuff is NULL");
    if (!recv && !(!gathers && empty)) return invalid("recvbuff is NULL");
    if (gathers) request.what.op = {};
    request.what.collective = collective;
    request.send = static_cast<const std::byte *>(send);
    request.recv = static_cast<std::byte *>(recv);
    request.shard = {static_cast<std::size_t>(shard->first), static_cast<std::size_t>(shard->elements)};
    request.membership = shard->membership;
    return asked;
}

}  // namespace

extern "C" {

pcclResult_t pcclGetShard(const pcclComm_t *communicator, size_t count, pcclShard_t *shard_out) {
    return guarded_initialized([&] {
        if (!shard_out) return fail(invalid("shard_out is NULL"));
        if (count == 0) return fail(invalid("count is 0"));
        if (const auto status = check(communicator); !status) return fail(status.error());
        const auto membership = mutable_of(communicator)->runtime.membership();
        if (membership.members.empty()) return fail(pcclInvalidUsage, "not connected: call pcclConnect first");
        const auto shard = pccl::peer::shard_of(count, membership.members, membership.self);
        *shard_out = {shard.span.begin, shard.span.count, shard.membership, shard.members, shard.place};
        return pcclSuccess;
    });
}

pcclResult_t pcclReduceScatter(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor, const pcclShard_t *shard,
                               const pcclReduceOptions_t *options, const pcclComm_t *communicator, pcclReduceReport_t *report) {
    return guarded_initialized([&] {
        if (const auto status = check(report); !status) return fail(status.error());
        return perform(sharded(Collective::reduce_scatter, sendbuff, recvbuff, descriptor, shard, options), communicator, report);
    });
}

pcclResult_t pcclReduceScatterAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor, const pcclShard_t *shard,
                                    const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                    pcclAsyncReduceOp_t *reduce_handle_out) {
    return guarded_initialized([&] {
        return launch(sharded(Collective::reduce_scatter, sendbuff, recvbuff, descriptor, shard, options), communicator, reduce_handle_out);
    });
}

pcclResult_t pcclAllGather(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor, const pcclShard_t *shard,
                           const pcclReduceOptions_t *options, const pcclComm_t *communicator, pcclReduceReport_t *report) {
    return guarded_initialized([&] {
        if (const auto status = check(report); !status) return fail(status.error());
        return perform(sharded(Collective::all_gather, sendbuff, recvbuff, descriptor, shard, options), communicator, report);
    });
}

pcclResult_t pcclAllGatherAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor, const pcclShard_t *shard,
                                const pcclReduceOptions_t *options, const pcclComm_t *communicator, pcclAsyncReduceOp_t *reduce_handle_out) {
    return guarded_initialized([&] {
        return launch(sharded(Collective::all_gather, sendbuff, recvbuff, descriptor, shard, options), communicator, reduce_handle_out);
    });
}

}  // extern "C"
