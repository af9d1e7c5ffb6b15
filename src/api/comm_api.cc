// The C interface of communicators: checks arguments, fills in words, and hands everything else to peer::Runtime.
#include <pccl/pccl.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>

#include "api/comm.h"
#include "api/state.h"
#include "kernel/types.h"

using pccl::Error;
using pccl::Status;
using pccl::api::fail;
using pccl::api::guarded_initialized;
using pccl::peer::Call;
using pccl::peer::CallPtr;

namespace {

namespace kernel = pccl::kernel;
namespace wire = pccl::wire;

Error invalid(std::string what) { return {pcclInvalidArgument, std::move(what)}; }

/// An enum from a C caller may hold any number; in C++ one beyond its enumerators must not be read as the enum.
template <class E> int number(const E &value) {
    static_assert(sizeof(E) == sizeof(int));
    int raw = 0;
    std::memcpy(&raw, &value, sizeof raw);
    return raw;
}
template <class E> bool within(const E &value, int count) { return number(value) >= 0 && number(value) < count; }

Status check(const pcclReduceDescriptor_t &d) {
    if (d.count == 0) return invalid("descriptor->count is 0");
    if (!within(d.op, kernel::kOps)) return invalid("descriptor->op is no operator: " + std::to_string(number(d.op)));
    if (!within(d.src_descriptor.datatype, kernel::kTypes)) {
        return invalid("descriptor->src_descriptor.datatype is no element type: " + std::to_string(number(d.src_descriptor.datatype)));
    }
    const auto type = static_cast<kernel::Type>(d.src_descriptor.datatype);
    if (d.count > (std::size_t{1} << 62) / kernel::size_of(type)) return invalid("descriptor->count is beyond any memory");
    if (!within(d.src_descriptor.distribution_hint, 3)) return invalid("descriptor->src_descriptor.distribution_hint is unknown");
    const auto &q = d.quantization_options;
    if (!within(q.algorithm, kernel::kQuants)) return invalid("descriptor->quantization_options.algorithm is unknown");
    if (q.algorithm == pcclQuantNone) return {};
    if (!within(q.quantized_datatype, kernel::kTypes)) {
        return invalid("descriptor->quantization_options.quantized_datatype is no element type");
    }
    if (!kernel::can_quantize(type, static_cast<kernel::Type>(q.quantized_datatype))) {
        return invalid("quantization takes float16, bfloat16, float and double to 8- and 16-bit integers, nothing else");
    }
    return {};
}

Status check(const void *send, const void *recv, const pcclReduceDescriptor_t *descriptor) {
    if (!send) return invalid("sendbuff is NULL");
    if (!recv) return invalid("recvbuff is NULL");
    if (!descriptor) return invalid("descriptor is NULL");
    return check(*descriptor);
}

pccl::peer::ReduceRequest to_request(const void *send, void *recv, const pcclReduceDescriptor_t &d) {
    pccl::peer::ReduceRequest request;
    request.send = static_cast<const std::byte *>(send);
    request.recv = static_cast<std::byte *>(recv);
    request.what.count = d.count;
    request.what.type = static_cast<kernel::Type>(d.src_descriptor.datatype);
    request.what.op = static_cast<kernel::Op>(d.op);
    if (d.quantization_options.algorithm != pcclQuantNone) {
        request.what.quantization = {static_cast<kernel::Quant>(d.quantization_options.algorithm),
                                     static_cast<kernel::Type>(d.quantization_options.quantized_datatype)};
    }
    return request;
}

/// Waits for a call and turns its end into this thread's.
pcclResult_t await(const CallPtr &call) {
    call->wait();
    return call->code == pcclSuccess ? pcclSuccess : fail(call->code, call->why);
}

/// The same for an all-reduce: also puts back what an operation that failed has overwritten.
pcclResult_t await_reduce(const CallPtr &call, pcclReduceInfo_t *info) {
    call->wait();
    if (!call->committed) call->reduce.undo.restore();
    if (info) *info = {call->reduce.world, call->reduce.tx_bytes, call->reduce.rx_bytes};
    return call->code == pcclSuccess ? pcclSuccess : fail(call->code, call->why);
}

pcclComm_t *mutable_of(const pcclComm_t *comm) { return const_cast<pcclComm_t *>(comm); }

bool any_outstanding(pcclComm_t &comm) {
    const std::lock_guard lock(comm.mutex);
    return !comm.outstanding.empty();
}

/// Whether the operation would race with one launched before, or with itself.
bool overlaps_outstanding(pcclComm_t &comm, const pccl::peer::ReduceRequest &request) {
    if (request.overlaps_itself()) return true;
    for (const auto &[tag, calls] : comm.outstanding) {
        for (const auto &call : calls) {
            if (!call->done && request.overlaps(call->reduce)) return true;
        }
    }
    return false;
}

/// A call that all members make while nothing else goes on.
template <class Start> pcclResult_t alone(const pcclComm_t *communicator, const char *name, Start start) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        auto &comm = *mutable_of(communicator);
        if (const auto status = comm.runtime.check_connected(); !status) return fail(status.error());
        if (any_outstanding(comm)) return fail(pcclPendingAsyncOps, std::string(name) + ": all-reduces were launched and not awaited");
        return start(comm);
    });
}

Status check(const pcclSharedState_t &state) {
    if (state.count == 0) return invalid("shared_state->count is 0");
    if (state.count > wire::kMaxTensors) return invalid("shared_state->count is beyond " + std::to_string(wire::kMaxTensors));
    if (!state.infos) return invalid("shared_state->infos is NULL");
    for (std::size_t i = 0; i < state.count; ++i) {
        const auto &t = state.infos[i];
        const std::string which = "shared_state->infos[" + std::to_string(i) + "]";
        if (!t.name || *t.name == '\0') return invalid(which + ".name is NULL or empty");
        if (std::string_view(t.name).size() > wire::kMaxTensorName) return invalid(which + ".name is too long");
        if (!within(t.datatype, kernel::kTypes)) return invalid(which + ".datatype is no element type");
        if (!within(t.device_type, 2)) return invalid(which + ".device_type is unknown");
        if (t.device_type != pcclDeviceCpu) return invalid(which + " is on a CUDA device; this build has no CUDA support");
        if (!t.data && t.count > 0) return invalid(which + ".data is NULL");
        if (t.count > (std::size_t{1} << 39) / kernel::size_of(static_cast<kernel::Type>(t.datatype))) {
            return invalid(which + " is larger than 512 GiB; split it");
        }
    }
    std::vector<std::string_view> names;
    for (std::size_t i = 0; i < state.count; ++i) names.emplace_back(state.infos[i].name);
    std::ranges::sort(names);
    const auto twice = std::ranges::adjacent_find(names);
    if (twice != names.end()) return invalid("two tensors of the shared state are named '" + std::string(*twice) + "'");
    return {};
}

pcclResult_t synchronize(pcclComm_t &comm, pcclSharedState_t &state, wire::Strategy strategy, pcclSharedStateSyncInfo_t *info) {
    auto session = std::make_shared<pccl::peer::SyncSession>();
    wire::OfferState offer;
    offer.revision = state.revision;
    offer.strategy = strategy;
    for (std::size_t i = 0; i < state.count; ++i) {
        const auto &t = state.infos[i];
        const auto type = static_cast<kernel::Type>(t.datatype);
        pccl::peer::SharedTensor tensor;
        tensor.data = static_cast<std::byte *>(t.data);
        tensor.bytes = t.count * kernel::size_of(type);
        tensor.checksums = kernel::chunk_checksums(tensor.data, tensor.bytes);  // here, so that the I/O thread stays free
        tensor.hash = kernel::content_hash(tensor.checksums);
        offer.tensors.push_back({t.name, type, t.count, t.allow_content_inequality, tensor.hash.bytes});
        session->tensors.push_back(std::move(tensor));
    }
    const CallPtr call = comm.runtime.synchronize(session, std::move(offer));
    const pcclResult_t result = await(call);
    if (info) *info = {session->tx_bytes, session->rx_bytes};
    if (result != pcclSuccess) return result;
    session->apply();
    state.revision = call->revision;
    return pcclSuccess;
}

}  // namespace

extern "C" {

pcclResult_t pcclGetAttribute(const pcclComm_t *communicator, pcclAttribute_t attribute, int *p_attribute_out) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        if (!p_attribute_out) return fail(invalid("p_attribute_out is NULL"));
        const bool known =
            number(attribute) >= PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE && number(attribute) <= PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE;
        if (!known) return fail(invalid("unknown attribute " + std::to_string(number(attribute))));
        if (const auto status = communicator->runtime.check_connected(); !status) return fail(status.error());
        const auto world = communicator->runtime.world();
        std::uint32_t value = world.global;
        if (attribute == PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE) value = world.group;
        if (attribute == PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS) value = world.groups;
        if (attribute == PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE) value = world.largest_group;
        *p_attribute_out = static_cast<int>(value);
        return pcclSuccess;
    });
}

pcclResult_t pcclDestroyCommunicator(pcclComm_t *communicator) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        delete communicator;
        return pcclSuccess;
    });
}

pcclResult_t pcclConnect(pcclComm_t *communicator) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        return await(communicator->runtime.connect());
    });
}

pcclResult_t pcclUpdateTopology(pcclComm_t *communicator) {
    return alone(communicator, "pcclUpdateTopology", [](pcclComm_t &comm) { return await(comm.runtime.update_topology()); });
}

pcclResult_t pcclOptimizeTopology(const pcclComm_t *communicator) {
    return alone(communicator, "pcclOptimizeTopology", [](pcclComm_t &comm) { return await(comm.runtime.optimize_topology()); });
}

pcclResult_t pcclArePeersPending(const pcclComm_t *communicator, bool *pending_out) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        if (!pending_out) return fail(invalid("pending_out is NULL"));
        auto &runtime = mutable_of(communicator)->runtime;
        if (const auto status = runtime.check_connected(); !status) return fail(status.error());
        const CallPtr call = runtime.are_peers_pending();
        const pcclResult_t result = await(call);
        if (result == pcclSuccess) *pending_out = call->pending;
        return result;
    });
}

pcclResult_t pcclAbort(pcclComm_t *communicator) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        communicator->runtime.abort();
        return pcclSuccess;
    });
}

pcclResult_t pcclAllReduce(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                           const pcclComm_t *communicator, pcclReduceInfo_t *reduce_info_out) {
    return guarded_initialized([&] {
        if (const auto status = check(sendbuff, recvbuff, descriptor); !status) return fail(status.error());
        if (!communicator) return fail(invalid("communicator is NULL"));
        auto &runtime = mutable_of(communicator)->runtime;
        if (const auto status = runtime.check_connected(); !status) return fail(status.error());
        const CallPtr call = runtime.all_reduce({descriptor->tag}, to_request(sendbuff, recvbuff, *descriptor));
        return await_reduce(call, reduce_info_out);
    });
}

pcclResult_t pcclAllReduceAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                const pcclComm_t *communicator, pcclAsyncReduceOp_t *reduce_handle_out) {
    return guarded_initialized([&] {
        if (const auto status = check(sendbuff, recvbuff, descriptor); !status) return fail(status.error());
        if (!communicator) return fail(invalid("communicator is NULL"));
        if (!reduce_handle_out) return fail(invalid("reduce_handle_out is NULL"));
        auto &comm = *mutable_of(communicator);
        if (const auto status = comm.runtime.check_connected(); !status) return fail(status.error());
        const auto request = to_request(sendbuff, recvbuff, *descriptor);
        CallPtr refused;
        {
            // One lock for all: handles of a tag are awaited in order of launch.
            const std::lock_guard lock(comm.mutex);
            const bool conflict = overlaps_outstanding(comm, request);
            const CallPtr call = comm.runtime.all_reduce({descriptor->tag}, request);
            if (conflict) refused = call;
            else comm.outstanding[descriptor->tag].push_back(call);
        }
        // It fails at every member, so that none waits for it; here, at its launch.
        if (refused) return await_reduce(refused, nullptr);
        *reduce_handle_out = {&comm, descriptor->tag};
        return pcclSuccess;
    });
}

pcclResult_t pcclAwaitAsyncReduce(const pcclAsyncReduceOp_t *reduce_handle, pcclReduceInfo_t *reduce_info_out) {
    return guarded_initialized([&] {
        if (!reduce_handle) return fail(invalid("reduce_handle is NULL"));
        if (!reduce_handle->comm) return fail(invalid("reduce_handle->comm is NULL"));
        auto &comm = *reduce_handle->comm;
        CallPtr call;
        {
            const std::lock_guard lock(comm.mutex);
            const auto found = comm.outstanding.find(reduce_handle->tag);
            if (found == comm.outstanding.end()) {
                return fail(pcclInvalidUsage, "no operation with tag " + std::to_string(reduce_handle->tag) +
                                                  " is outstanding: it was awaited before, or never launched");
            }
            call = found->second.front();
            found->second.pop_front();
            // Still outstanding for pcclUpdateTopology and its like: an empty queue stays until the operation has ended.
        }
        const pcclResult_t result = await_reduce(call, reduce_info_out);
        const std::lock_guard lock(comm.mutex);
        const auto found = comm.outstanding.find(reduce_handle->tag);
        if (found != comm.outstanding.end() && found->second.empty()) comm.outstanding.erase(found);
        return result;
    });
}

pcclResult_t pcclAllReduceMultipleWithRetry(const pcclReduceOpDescriptor_t *descriptors, size_t count, const pcclComm_t *communicator,
                                            pcclReduceInfo_t *reduce_info_out, int max_in_flight) {
    return guarded_initialized([&] {
        if (!descriptors) return fail(invalid("descriptors is NULL"));
        if (count == 0) return fail(invalid("count is 0"));
        if (max_in_flight < 1) return fail(invalid("max_in_flight is below 1"));
        if (!communicator) return fail(invalid("communicator is NULL"));
        std::vector<std::uint64_t> tags;
        for (std::size_t i = 0; i < count; ++i) {
            const auto &d = descriptors[i];
            const auto status = check(d.sendbuf, d.recvbuf, &d.descriptor);
            if (!status) return fail(invalid("descriptors[" + std::to_string(i) + "]: " + status.error().what));
            tags.push_back(d.descriptor.tag);
        }
        std::ranges::sort(tags);
        if (std::ranges::adjacent_find(tags) != tags.end()) {
            return fail(invalid("two descriptors have the same tag " + std::to_string(*std::ranges::adjacent_find(tags))));
        }
        auto &runtime = mutable_of(communicator)->runtime;
        if (const auto status = runtime.check_connected(); !status) return fail(status.error());

        pcclReduceInfo_t total{};
        std::deque<std::size_t> todo;
        for (std::size_t i = 0; i < count; ++i) todo.push_back(i);
        std::deque<std::pair<std::size_t, CallPtr>> flying;
        pcclResult_t failed = pcclSuccess;
        std::string why;
        // Launched in one order at every member: so a few in flight at each are the same few.
        while (!flying.empty() || (!todo.empty() && failed == pcclSuccess)) {
            while (failed == pcclSuccess && !todo.empty() && flying.size() < static_cast<std::size_t>(max_in_flight)) {
                const std::size_t i = todo.front();
                todo.pop_front();
                const auto &d = descriptors[i];
                flying.emplace_back(i, runtime.all_reduce({d.descriptor.tag}, to_request(d.sendbuf, d.recvbuf, d.descriptor)));
            }
            const auto [i, call] = flying.front();
            flying.pop_front();
            pcclReduceInfo_t info{};
            const pcclResult_t result = await_reduce(call, &info);
            total.tx_bytes += info.tx_bytes;
            total.rx_bytes += info.rx_bytes;
            if (result == pcclSuccess) {
                total.local_world_size = total.local_world_size == 0 ? info.local_world_size : std::min(total.local_world_size, info.local_world_size);
            } else if (result == pcclRankConnectionLost && runtime.check_connected()) {
                // Before what was never begun: all members have this operation ahead of those.
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

pcclResult_t pcclSynchronizeSharedState(const pcclComm_t *communicator, pcclSharedState_t *shared_state,
                                        pcclSharedStateSyncStrategy_t strategy, pcclSharedStateSyncInfo_t *sync_info_out) {
    if (communicator && shared_state && pccl::api::initialized()) {
        const auto status = check(*shared_state);
        if (!status) return fail(status.error());
    }
    return alone(communicator, "pcclSynchronizeSharedState", [&](pcclComm_t &comm) {
        if (!shared_state) return fail(invalid("shared_state is NULL"));
        if (!within(strategy, 3)) return fail(invalid("unknown strategy " + std::to_string(number(strategy))));
        return synchronize(comm, *shared_state, static_cast<wire::Strategy>(strategy), sync_info_out);
    });
}

}  // extern "C"
