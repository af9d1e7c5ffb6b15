// The C interface of communicators, except reduces (reduce_api.cc). Checks arguments and calls peer::Runtime.
#include <pccl/pccl.h>

#include <algorithm>
#include <string>

#include "api/arguments.h"
#include "api/comm.h"
#include "api/state.h"
#include "op/quantization.h"

namespace pccl::api {
namespace {

bool any_outstanding(pcclComm_t &comm) {
    const std::lock_guard lock(comm.mutex);
    return !comm.outstanding.empty();
}

/// Runs a call that all members make while no operation of this communicator is outstanding.
template <class Start> pcclResult_t exclusive(const pcclComm_t *communicator, const char *name, Start start) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        auto &comm = *mutable_of(communicator);
        if (const auto status = comm.runtime.check_connected(); !status) return fail(status.error());
        if (any_outstanding(comm))
            return fail(pcclPendingAsyncOps, std::string(name) + ": operations were launched and not awaited. Await them first");
        return start(comm);
    });
}

Status check(const pcclSharedState_t &state) {
    if (state.count == 0) return invalid("shared_state->count is 0. Pass at least one tensor");
    if (state.count > wire::kMaxTensors)
        return invalid("shared_state->count is " + std::to_string(state.count) + ". Pass at most " +
                       std::to_string(wire::kMaxTensors) + " tensors");
    if (!state.infos) return invalid("shared_state->infos is NULL");
    for (std::size_t i = 0; i < state.count; ++i) {
        const auto &t = state.infos[i];
        const std::string which = "shared_state->infos[" + std::to_string(i) + "]";
        if (!t.name || *t.name == '\0') return invalid(which + ".name is NULL or empty");
        if (std::string_view(t.name).size() > wire::kMaxTensorName)
            return invalid(which + ".name is " + std::to_string(std::string_view(t.name).size()) + " bytes long. Use at most " +
                           std::to_string(wire::kMaxTensorName));
        if (!within(t.datatype, op::kTypes))
            return invalid(which + ".datatype is " + std::to_string(number(t.datatype)) +
                           ", which is not an element type. Use pcclUint8 to pcclDouble");
        if (!within(t.device_type, 2))
            return invalid(which + ".device_type is " + std::to_string(number(t.device_type)) +
                           ", which is unknown. Use pcclDeviceCpu");
        if (t.device_type != pcclDeviceCpu)
            return invalid(which + " is on a CUDA device, and this build has no CUDA support. Copy the tensor to the CPU");
        if (!t.data && t.count > 0) return invalid(which + ".data is NULL and its count is " + std::to_string(t.count));
        if (t.count > (std::size_t{1} << 39) / op::size_of(static_cast<op::Type>(t.datatype))) {
            return invalid(which + " is larger than 512 GiB. Split it");
        }
    }
    std::vector<std::string_view> names;
    for (std::size_t i = 0; i < state.count; ++i)
        names.emplace_back(state.infos[i].name);
    std::ranges::sort(names);
    const auto twice = std::ranges::adjacent_find(names);
    if (twice != names.end())
        return invalid("two tensors of the shared state are named '" + std::string(*twice) + "'. Give each its own name");
    return {};
}

pcclResult_t synchronize(pcclComm_t &comm, pcclSharedState_t &state, wire::Strategy strategy, pcclSharedStateSyncInfo_t *info) {
    auto session = std::make_shared<peer::SyncSession>();
    wire::OfferState offer;
    offer.revision = state.revision;
    offer.strategy = strategy;
    for (std::size_t i = 0; i < state.count; ++i) {
        const auto &t = state.infos[i];
        const auto type = static_cast<op::Type>(t.datatype);
        peer::SharedTensor tensor;
        tensor.data = {t.data, t.count * op::size_of(type)};
        // Computed in the caller's thread, so that the I/O thread stays free.
        tensor.checksums = kernel::chunk_checksums(tensor.data.read(0), tensor.data.bytes());
        tensor.hash = kernel::content_hash(tensor.checksums);
        tensor.element_bytes = static_cast<std::uint8_t>(op::size_of(type));
        tensor.name = t.name;
        offer.tensors.push_back({t.name, type, t.count, t.allow_content_inequality, tensor.hash.bytes});
        session->tensors.push_back(std::move(tensor));
    }
    const peer::CallPtr call = comm.runtime.synchronize(session, std::move(offer));
    const pcclResult_t result = await(call);
    if (info) *info = {session->tx_bytes, session->rx_bytes};
    if (result != pcclSuccess) return result;
    session->apply();
    state.revision = call->revision;
    return pcclSuccess;
}

}  // namespace
}  // namespace pccl::api

using namespace pccl;
using namespace pccl::api;

extern "C" {

pcclResult_t pcclGetAttribute(const pcclComm_t *communicator, pcclAttribute_t attribute, int *p_attribute_out) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        if (!p_attribute_out) return fail(invalid("p_attribute_out is NULL"));
        const bool known = number(attribute) >= PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE &&
                           number(attribute) <= PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE;
        if (!known)
            return fail(invalid("attribute is " + std::to_string(number(attribute)) +
                                ", which is unknown. Use a value of pcclAttribute_t"));
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
        // In a forked child the memory is kept: the thread that would have to end first exists only in the parent.
        if (communicator->runtime.forked()) return pcclSuccess;
        delete communicator;
        return pcclSuccess;
    });
}

pcclResult_t pcclConnect(pcclComm_t *communicator) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        if (const auto status = communicator->runtime.check_process(); !status) return fail(status.error());
        return await(communicator->runtime.connect());
    });
}

pcclResult_t pcclUpdateTopology(pcclComm_t *communicator) {
    return exclusive(communicator, "pcclUpdateTopology", [](pcclComm_t &comm) { return await(comm.runtime.update_topology()); });
}

pcclResult_t pcclOptimizeTopology(const pcclComm_t *communicator) {
    return exclusive(communicator, "pcclOptimizeTopology", [](pcclComm_t &comm) {
        const peer::CallPtr call = comm.runtime.optimize_topology();
        const pcclResult_t result = await(call);
        return result == pcclTooFewPeers ? fail(pcclInvalidUsage, call->why) : result;  // as in version 1
    });
}

pcclResult_t pcclArePeersPending(const pcclComm_t *communicator, bool *pending_out) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        if (!pending_out) return fail(invalid("pending_out is NULL"));
        auto &runtime = mutable_of(communicator)->runtime;
        if (const auto status = runtime.check_connected(); !status) return fail(status.error());
        const peer::CallPtr call = runtime.are_peers_pending();
        const pcclResult_t result = await(call);
        if (result == pcclSuccess) *pending_out = call->pending;
        return result;
    });
}

pcclResult_t pcclAbort(pcclComm_t *communicator) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        if (const auto status = communicator->runtime.check_process(); !status) return fail(status.error());
        communicator->runtime.abort();
        return pcclSuccess;
    });
}

pcclResult_t pcclSetWaitHook(void (*hook)(void *context), void *context) {
    return guarded_initialized([&] {
        peer::wait_hook() = {hook, context};
        return pcclSuccess;
    });
}

pcclResult_t pcclSynchronizeSharedState(const pcclComm_t *communicator, pcclSharedState_t *shared_state,
                                        pcclSharedStateSyncStrategy_t strategy, pcclSharedStateSyncInfo_t *sync_info_out) {
    if (communicator && shared_state && initialized()) {
        const auto status = check(*shared_state);
        if (!status) return fail(status.error());
    }
    return exclusive(communicator, "pcclSynchronizeSharedState", [&](pcclComm_t &comm) {
        if (!shared_state) return fail(invalid("shared_state is NULL"));
        if (!within(strategy, 3))
            return fail(invalid("strategy is " + std::to_string(number(strategy)) +
                                ", which is unknown. Use a value of pcclSharedStateSyncStrategy_t"));
        return synchronize(comm, *shared_state, static_cast<wire::Strategy>(strategy), sync_info_out);
    });
}

}  // extern "C"
