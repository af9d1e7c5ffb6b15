// The C interface of communicators but for all-reduces (reduce_api.cc): checks arguments, fills in words, and hands everything else to
// peer::Runtime.
#include <pccl/pccl.h>

#include <algorithm>
#include <string>

#include "api/arguments.h"
#include "api/comm.h"
#include "api/state.h"
#include "op/quantization.h"

using pccl::Status;
using pccl::api::await;
using pccl::api::fail;
using pccl::api::guarded_initialized;
using pccl::api::invalid;
using pccl::api::mutable_of;
using pccl::api::number;
using pccl::api::within;
using pccl::peer::CallPtr;

namespace {

namespace kernel = pccl::kernel;
namespace op = pccl::op;
namespace wire = pccl::wire;

bool any_outstanding(pcclComm_t &comm) {
    const std::lock_guard lock(comm.mutex);
    return !comm.outstanding.empty();
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
        if (!within(t.datatype, op::kTypes)) return invalid(which + ".datatype is no element type");
        if (!within(t.device_type, 2)) return invalid(which + ".device_type is unknown");
        if (t.device_type != pcclDeviceCpu) return invalid(which + " is on a CUDA device; this build has no CUDA support");
        if (!t.data && t.count > 0) return invalid(which + ".data is NULL");
        if (t.count > (std::size_t{1} << 39) / op::size_of(static_cast<op::Type>(t.datatype))) {
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
        const auto type = static_cast<op::Type>(t.datatype);
        pccl::peer::SharedTensor tensor;
        tensor.data = {t.data, t.count * op::size_of(type)};
        tensor.checksums = kernel::chunk_checksums(tensor.data.read(0), tensor.data.bytes());  // here, so that the I/O thread stays free
        tensor.hash = kernel::content_hash(tensor.checksums);
        tensor.element_bytes = static_cast<std::uint8_t>(op::size_of(type));
        tensor.name = t.name;
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
        // In a fork the handle is given up and its memory left alone: the thread that would end it is the parent's.
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
    return alone(communicator, "pcclUpdateTopology", [](pcclComm_t &comm) { return await(comm.runtime.update_topology()); });
}

pcclResult_t pcclOptimizeTopology(const pcclComm_t *communicator) {
    return alone(communicator, "pcclOptimizeTopology", [](pcclComm_t &comm) {
        const CallPtr call = comm.runtime.optimize_topology();
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
        const CallPtr call = runtime.are_peers_pending();
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
        pccl::peer::wait_hook() = {hook, context};
        return pcclSuccess;
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
