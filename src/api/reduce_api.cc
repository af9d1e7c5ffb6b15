// The C interface of all-reduces. Keeps launched operations until they are awaited, and calls peer::Runtime.
#include <pccl/pccl.h>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <string>

#include "api/arguments.h"
#include "api/comm.h"
#include "api/reduce_call.h"
#include "api/state.h"

namespace pccl::api {
namespace {

Result<ParsedReduce> all_reduce(const void *send, void *recv, const pcclReduceDescriptor_t *descriptor,
                                const pcclReduceOptions_t *options) {
    if (!send) return invalid("sendbuff is NULL");
    if (!recv) return invalid("recvbuff is NULL");
    auto parsed = parse_reduce(descriptor, options);
    if (!parsed) return parsed;
    parsed->request.set_buffers(send, recv);
    return parsed;
}

template <class Out> pcclResult_t await_launched(const pcclAsyncReduceOp_t *handle, Out *out) {
    if (!handle) return fail(invalid("reduce_handle is NULL"));
    if (!handle->comm) return fail(invalid("reduce_handle->comm is NULL"));
    auto &comm = *handle->comm;
    peer::CallPtr call;
    {
        const std::lock_guard lock(comm.mutex);
        const auto found = comm.outstanding.find(handle->tag);
        if (found == comm.outstanding.end()) {
            return fail(pcclInvalidUsage, "no operation with tag " + std::to_string(handle->tag) +
                                              " is outstanding: it was never launched, or was awaited before");
        }
        call = found->second.front();
        found->second.pop_front();
        // The empty queue stays until the operation has ended, so that calls that need an idle communicator still fail.
    }
    const pcclResult_t result = await_reduce(call);
    fill(out, call->reduce);
    const std::lock_guard lock(comm.mutex);
    const auto found = comm.outstanding.find(handle->tag);
    if (found != comm.outstanding.end() && found->second.empty()) comm.outstanding.erase(found);
    return result;
}

}  // namespace
}  // namespace pccl::api

using namespace pccl;
using namespace pccl::api;

extern "C" {

pcclResult_t pcclAllReduce(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                           const pcclComm_t *communicator, pcclReduceInfo_t *reduce_info_out) {
    return guarded_initialized(
        [&] { return perform(all_reduce(sendbuff, recvbuff, descriptor, nullptr), communicator, reduce_info_out); });
}

pcclResult_t pcclAllReduceWithOptions(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                      const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                      pcclReduceReport_t *report) {
    return guarded_initialized([&] {
        if (const auto status = check(report); !status) return fail(status.error());
        return perform(all_reduce(sendbuff, recvbuff, descriptor, options), communicator, report);
    });
}

pcclResult_t pcclDropErrorFeedback(const pcclComm_t *communicator, uint64_t tag) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        mutable_of(communicator)->runtime.drop_residual({tag});
        return pcclSuccess;
    });
}

pcclResult_t pcclAllReduceAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                const pcclComm_t *communicator, pcclAsyncReduceOp_t *reduce_handle_out) {
    return guarded_initialized(
        [&] { return launch(all_reduce(sendbuff, recvbuff, descriptor, nullptr), communicator, reduce_handle_out); });
}

pcclResult_t pcclAllReduceAsyncWithOptions(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                           const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                           pcclAsyncReduceOp_t *reduce_handle_out) {
    return guarded_initialized(
        [&] { return launch(all_reduce(sendbuff, recvbuff, descriptor, options), communicator, reduce_handle_out); });
}

pcclResult_t pcclAwaitAsyncReduce(const pcclAsyncReduceOp_t *reduce_handle, pcclReduceInfo_t *reduce_info_out) {
    return guarded_initialized([&] { return await_launched(reduce_handle, reduce_info_out); });
}

pcclResult_t pcclAwaitAsyncReduceWithReport(const pcclAsyncReduceOp_t *reduce_handle, pcclReduceReport_t *report) {
    return guarded_initialized([&] {
        if (const auto status = check(report); !status) return fail(status.error());
        return await_launched(reduce_handle, report);
    });
}

pcclResult_t pcclAllReduceMultipleWithRetry(const pcclReduceOpDescriptor_t *descriptors, size_t count,
                                            const pcclComm_t *communicator, pcclReduceInfo_t *reduce_info_out,
                                            int max_in_flight) {
    return guarded_initialized([&] {
        if (!descriptors) return fail(invalid("descriptors is NULL"));
        if (count == 0) return fail(invalid("count is 0"));
        if (max_in_flight < 1) return fail(invalid("max_in_flight is " + std::to_string(max_in_flight) + ". Use at least 1"));
        if (!communicator) return fail(invalid("communicator is NULL"));
        std::vector<std::uint64_t> tags;
        std::vector<ParsedReduce> requests;
        for (std::size_t i = 0; i < count; ++i) {
            const auto &d = descriptors[i];
            auto request = all_reduce(d.sendbuf, d.recvbuf, &d.descriptor, nullptr);
            if (!request) return fail(invalid("descriptors[" + std::to_string(i) + "]: " + request.error().what));
            requests.push_back(std::move(*request));
            tags.push_back(d.descriptor.tag);
        }
        std::ranges::sort(tags);
        if (std::ranges::adjacent_find(tags) != tags.end()) {
            return fail(invalid("two descriptors have the tag " + std::to_string(*std::ranges::adjacent_find(tags)) +
                                ". Give each its own tag"));
        }
        auto &runtime = mutable_of(communicator)->runtime;
        if (const auto status = runtime.check_connected(); !status) return fail(status.error());
        const std::uint64_t aborts = runtime.aborts();

        pcclReduceInfo_t total{};
        std::deque<std::size_t> todo;
        for (std::size_t i = 0; i < count; ++i)
            todo.push_back(i);
        std::deque<std::pair<std::size_t, peer::CallPtr>> flying;
        pcclResult_t failed = pcclSuccess;
        std::string why;
        // Every member launches in the same order, so that the operations in flight are the same at every member.
        while (!flying.empty() || (!todo.empty() && failed == pcclSuccess)) {
            while (failed == pcclSuccess && !todo.empty() && flying.size() < static_cast<std::size_t>(max_in_flight)) {
                const std::size_t i = todo.front();
                todo.pop_front();
                flying.emplace_back(i, runtime.reduce(requests[i].tag, requests[i].request));
            }
            const auto [i, call] = flying.front();
            flying.pop_front();
            const pcclResult_t result = await_reduce(call);
            const peer::ReduceRequest &reduce = call->reduce;
            total.tx_bytes += reduce.tx_bytes;
            total.rx_bytes += reduce.rx_bytes;
            if (result == pcclSuccess) {
                total.local_world_size =
                    total.local_world_size == 0 ? reduce.world : std::min(total.local_world_size, reduce.world);
            } else if (result == pcclRankConnectionLost && runtime.check_connected() && runtime.aborts() == aborts) {
                // Repeated before operations that were never launched, because every member has this one ahead of them.
                todo.insert(std::ranges::upper_bound(todo, i), i);
            } else if (failed == pcclSuccess) {
                failed = result;
                why = call->why;
            }
        }
        if (reduce_info_out) *reduce_info_out = total;
        return failed == pcclSuccess ? pcclSuccess : fail(failed, why);
    });
}

}  // extern "C"
