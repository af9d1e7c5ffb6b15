// The C interface of point-to-point exchange. Checks arguments, converts peer ids and calls peer::Runtime.
#include <pccl/exchange.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "api/arguments.h"
#include "api/comm.h"
#include "api/state.h"

namespace pccl::api {
namespace {

constexpr std::size_t kWord = 8;

void put(std::uint8_t *out, std::uint64_t word) {
    for (std::size_t i = 0; i < kWord; ++i)
        out[i] = static_cast<std::uint8_t>(word >> (8 * (kWord - 1 - i)));
}
std::uint64_t get(const std::uint8_t *in) {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < kWord; ++i)
        word = word << 8 | in[i];
    return word;
}

/// The number of the run, then the number of the peer in it, both big-endian: ids of one run sort in the order of joining.
pcclPeerId_t peer_id_of(std::uint64_t run, PeerId id) {
    pcclPeerId_t out;
    put(out.data, run);
    put(out.data + kWord, id.value);
    return out;
}

std::optional<Time> deadline(std::uint32_t timeout_ms) {
    if (timeout_ms == PCCL_FOREVER) return std::nullopt;
    return monotonic_now() + std::chrono::milliseconds(timeout_ms);
}

/// Returns the receiver of a post, which must be another member of the group.
Result<PeerId> receiver(const peer::Runtime::GroupSnapshot &membership, const pcclPeerId_t &to) {
    const PeerId id{get(to.data + kWord)};
    if (get(to.data) != membership.run || std::ranges::find(membership.members, id) == membership.members.end()) {
        return invalid("`to` is not a member of this peer's group. Choose a receiver from pcclGetMembers");
    }
    if (id == membership.self) return invalid("`to` is this peer. Choose another member from pcclGetMembers");
    return id;
}

template <class F> pcclResult_t connected(const pcclComm_t *communicator, F &&body) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        auto &comm = *mutable_of(communicator);
        if (const auto status = comm.runtime.check_connected(); !status) return fail(status.error());
        return body(comm);
    });
}

/// Copies the first `capacity` ids of a list and sets the length of the list.
void copy_out(const std::vector<PeerId> &ids, std::uint64_t run, pcclPeerId_t *out, std::size_t capacity,
              std::size_t *count_out) {
    for (std::size_t i = 0; i < std::min(capacity, ids.size()); ++i)
        out[i] = peer_id_of(run, ids[i]);
    if (count_out) *count_out = ids.size();
}

pcclMessageInfo_t info_of(const peer::Message &message, std::uint64_t run) {
    return {peer_id_of(run, message.from), message.tag.value, message.number, message.bytes};
}

}  // namespace
}  // namespace pccl::api

using namespace pccl;
using namespace pccl::api;

extern "C" {

pcclResult_t pcclGetPeerId(const pcclComm_t *communicator, pcclPeerId_t *peer_id_out) {
    return connected(communicator, [&](pcclComm_t &comm) {
        if (!peer_id_out) return fail(invalid("peer_id_out is NULL"));
        const auto membership = comm.runtime.group();
        *peer_id_out = peer_id_of(membership.run, membership.self);
        return pcclSuccess;
    });
}

pcclResult_t pcclGetMembers(const pcclComm_t *communicator, pcclPeerId_t *peer_ids_out, size_t capacity, size_t *count_out,
                            uint64_t *epoch_out) {
    return connected(communicator, [&](pcclComm_t &comm) {
        if (!peer_ids_out && capacity > 0) return fail(invalid("peer_ids_out is NULL"));
        const auto membership = comm.runtime.group();
        copy_out(membership.members, membership.run, peer_ids_out, capacity, count_out);
        if (epoch_out) *epoch_out = membership.epoch.value;
        return pcclSuccess;
    });
}

pcclResult_t pcclPost(const pcclComm_t *communicator, const pcclPeerId_t *to, uint64_t tag, const void *data, size_t bytes,
                      uint32_t timeout_ms, pcclPostOp_t *post_out) {
    return connected(communicator, [&](pcclComm_t &comm) {
        if (!to) return fail(invalid("`to` is NULL"));
        if (!data && bytes > 0) return fail(invalid("data is NULL"));
        if (!post_out) return fail(invalid("post_out is NULL"));
        const auto id = receiver(comm.runtime.group(), *to);
        if (!id) return fail(id.error());
        const std::lock_guard lock(comm.mutex);
        auto &entry = comm.posts[++comm.last_post];
        try {
            entry = comm.runtime.post(*id, Tag{tag}, static_cast<const std::byte *>(data), bytes, deadline(timeout_ms));
        } catch (...) {
            comm.posts.erase(comm.last_post);
            throw;
        }
        *post_out = {&comm, comm.last_post};
        return pcclSuccess;
    });
}

pcclResult_t pcclAwaitPost(const pcclPostOp_t *post, uint32_t timeout_ms) {
    return guarded_initialized([&] {
        if (!post || !post->comm) return fail(invalid("post is NULL or was not set by pcclPost"));
        auto &comm = *post->comm;
        peer::PostPtr found;
        {
            const std::lock_guard lock(comm.mutex);
            if (const auto entry = comm.posts.find(post->number); entry != comm.posts.end()) found = entry->second;
        }
        if (!found)
            return fail(pcclInvalidUsage, "no message with this handle is outstanding: it was never posted, or an earlier "
                                          "pcclAwaitPost returned its outcome");
        const auto outcome = comm.runtime.office().await(*found, deadline(timeout_ms));
        if (!outcome && outcome.error().code == pcclTimeout) return fail(outcome.error());
        const std::lock_guard lock(comm.mutex);
        comm.posts.erase(post->number);
        return outcome ? pcclSuccess : fail(outcome.error());
    });
}

pcclResult_t pcclReceive(const pcclComm_t *communicator, uint64_t tag, void *buffer, size_t capacity, uint32_t timeout_ms,
                         pcclMessageInfo_t *info) {
    return connected(communicator, [&](pcclComm_t &comm) {
        if (!buffer && capacity > 0) return fail(invalid("buffer is NULL"));
        const std::uint64_t run = comm.runtime.group().run;
        peer::Message message;
        const auto taken = comm.runtime.take_message(Tag{tag}, capacity, deadline(timeout_ms), message);
        if (info && message.from != PeerId{}) *info = info_of(message, run);
        if (!taken) return fail(taken.error());
        if (message.bytes > 0) std::memcpy(buffer, message.data.get(), message.bytes);
        return pcclSuccess;
    });
}

pcclResult_t pcclSetMailbox(const pcclComm_t *communicator, uint64_t max_bytes, uint32_t max_messages) {
    return guarded_initialized([&] {
        if (!communicator) return fail(invalid("communicator is NULL"));
        if (max_bytes == 0 || max_messages == 0) return fail(invalid("max_bytes and max_messages must be at least 1"));
        mutable_of(communicator)->runtime.set_mailbox({max_bytes, max_messages});
        return pcclSuccess;
    });
}

pcclResult_t pcclSetNeighbourGraph(const pcclComm_t *communicator, const pcclGraphOptions_t *options) {
    return connected(communicator, [&](pcclComm_t &comm) {
        if (!options) return fail(invalid("options is NULL"));
        if (!within(options->kind, static_cast<int>(wire::kGraphKinds)))
            return fail(invalid("options->kind is unknown: " + std::to_string(number(options->kind))));
        const wire::GraphSpec graph{static_cast<wire::GraphKind>(options->kind), options->degree, options->seed};
        if (!graph.well_formed())
            return fail(invalid("options->degree is " + std::to_string(graph.degree) +
                                ", which is out of range for this kind: see pcclGraphOptions_t"));
        return await(comm.runtime.set_graph(graph));
    });
}

pcclResult_t pcclGetNeighbours(const pcclComm_t *communicator, pcclPeerId_t *peer_ids_out, size_t capacity, size_t *count_out,
                               uint64_t *epoch_out) {
    return connected(communicator, [&](pcclComm_t &comm) {
        if (!peer_ids_out && capacity > 0) return fail(invalid("peer_ids_out is NULL"));
        const auto membership = comm.runtime.group();
        copy_out(membership.neighbours, membership.run, peer_ids_out, capacity, count_out);
        if (epoch_out) *epoch_out = membership.graph_epoch;
        return pcclSuccess;
    });
}

}  // extern "C"
