// The C interface of all-reduces: checks arguments, keeps what was launched until it is awaited, and hands the rest to peer::Runtime.
#include <pccl/pccl.h>

#include <algorithm>
#include <deque>
#include <string>

#include "api/arguments.h"
#include "api/comm.h"
#include "api/state.h"
#include "api/structures.h"
#include "collective/repair_plan.h"
#include "kernel/types.h"

using pccl::Result;
using pccl::Status;
using pccl::api::check_size;
using pccl::api::complete;
using pccl::api::fail;
using pccl::api::guarded_initialized;
using pccl::api::hand_out;
using pccl::api::invalid;
using pccl::api::mutable_of;
using pccl::api::number;
using pccl::api::set_fresh;
using pccl::api::within;
using pccl::peer::CallPtr;
using pccl::peer::ReduceRequest;

namespace {

namespace collective = pccl::collective;
namespace kernel = pccl::kernel;
namespace wire = pccl::wire;

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
    if (!within(q.quantized_datatype, kernel::kPackedTypes)) {
        return invalid("descriptor->quantization_options.quantized_datatype is no element type");
    }
    if (!kernel::can_quantize(static_cast<kernel::Quant>(q.algorithm), type, static_cast<kernel::Type>(q.quantized_datatype))) {
        return invalid("quantization takes float16, bfloat16, float and double to 8- and 16-bit integers (pcclQuantBlockScale: to int8 and "
                       "int4), nothing else");
    }
    return {};
}

Status check(const void *send, const void *recv, const pcclReduceDescriptor_t *descriptor) {
    if (!send) return invalid("sendbuff is NULL");
    if (!recv) return invalid("recvbuff is NULL");
    if (!descriptor) return invalid("descriptor is NULL");
    return check(*descriptor);
}

Result<pcclReduceOptions_t> read(const pcclReduceOptions_t *options) {
    pcclReduceOptions_t whole;
    set_fresh(whole);
    if (!options) return whole;
    if (const auto status = complete(*options, whole); !status) return status.error();
    if (!within(whole.algorithm, wire::kAlgorithms)) return invalid("options->algorithm is unknown: " + std::to_string(number(whole.algorithm)));
    if (!within(whole.quantization_scale, kernel::kScales)) {
        return invalid("options->quantization_scale is unknown: " + std::to_string(number(whole.quantization_scale)));
    }
    if (!within(whole.fault, wire::kFaults)) return invalid("options->fault is unknown: " + std::to_string(number(whole.fault)));
    return whole;
}

/// Defaults are filled in here, so that a member that asks for them by name agrees with one that does not.
Result<kernel::Quantization> to_quantization(const pcclQuantizationOptions_t &q, const pcclReduceOptions_t &options) {
    const bool in_blocks = q.algorithm == pcclQuantBlockScale;
    const std::size_t block = options.quantization_block;
    if (!in_blocks && block != 0) return invalid("options->quantization_block is set: it belongs to pcclQuantBlockScale");
    if (block != 0 && !kernel::is_scale_block(block)) {
        return invalid("options->quantization_block is " + std::to_string(block) + ", not 32, 64, 128, 256 or 512");
    }
    kernel::Quantization how;
    if (q.algorithm == pcclQuantNone) return how;
    how.algorithm = static_cast<kernel::Quant>(q.algorithm);
    how.type = static_cast<kernel::Type>(q.quantized_datatype);
    if (!in_blocks) return how;
    how.block = static_cast<std::uint16_t>(block != 0 ? block : kernel::kDefaultScaleBlock);
    how.scale = static_cast<kernel::Scale>(options.quantization_scale);
    return how;
}

Result<ReduceRequest> to_request(const void *send, void *recv, const pcclReduceDescriptor_t *descriptor, const pcclReduceOptions_t *options) {
    if (const auto status = check(send, recv, descriptor); !status) return status.error();
    const auto &d = *descriptor;
    const auto how = read(options);
    if (!how) return how.error();
    ReduceRequest request;
    request.send = static_cast<const std::byte *>(send);
    request.recv = static_cast<std::byte *>(recv);
    request.what.count = d.count;
    request.what.type = static_cast<kernel::Type>(d.src_descriptor.datatype);
    request.what.op = static_cast<kernel::Op>(d.op);
    request.what.algorithm = static_cast<wire::Algorithm>(how->algorithm);
    if (how->error_feedback) {
        const bool adds = d.op == pcclSum || d.op == pcclAvg;
        if (d.quantization_options.algorithm == pcclQuantNone) return invalid("options->error_feedback is set, but nothing is quantized");
        if (!adds) return invalid("options->error_feedback is for sums and averages");
        request.what.error_feedback = true;
    }
    request.what.fault = static_cast<wire::Fault>(how->fault);
    if (request.repairs() && d.op != pcclAvg) {
        return invalid("options->fault is pcclFaultRepair, which is for averages: use pcclAvg, or pcclFaultRetry. (Of a sum in which not "
                       "everybody took part nobody could tell what is missing)");
    }
    const auto quantization = to_quantization(d.quantization_options, *how);
    if (!quantization) return quantization.error();
    request.what.quantization = *quantization;
    return request;
}

/// Waits for an all-reduce, and puts back what one that failed has overwritten.
pcclResult_t await_reduce(const CallPtr &call) {
    call->wait();
    if (!call->committed) call->reduce.undo.restore();
    return call->code == pcclSuccess ? pcclSuccess : fail(call->code, call->why);
}

void fill(pcclReduceInfo_t *info, const ReduceRequest &reduce) {
    if (info) *info = {reduce.world, reduce.tx_bytes, reduce.rx_bytes};
}

Status check(const pcclReduceReport_t *report) {
    return report ? check_size(*report) : Status{};
}

void fill(pcclReduceReport_t *report, const ReduceRequest &reduce) {
    if (!report) return;
    pcclReduceReport_t whole;
    set_fresh(whole);
    whole.world_size = reduce.world;
    whole.lanes = static_cast<std::uint32_t>(reduce.lanes);
    whole.tx_bytes = reduce.tx_bytes;
    whole.rx_bytes = reduce.rx_bytes;
    whole.chunk_bytes = reduce.chunk_elements * kernel::size_of(reduce.what.type);
    whole.algorithm = static_cast<pcclReduceAlgorithm_t>(reduce.algorithm);
    const auto took_part = reduce.finals.empty() ? collective::Participation{reduce.world, reduce.what.count}
                                                 : collective::participation(reduce.finals);
    whole.repairs = reduce.repairs_made;
    whole.fewest_took_part = took_part.fewest;
    whole.fewest_elements = took_part.elements;
    whole.repair_tx_bytes = reduce.repairs_made > 0 ? reduce.tx_bytes - reduce.tx_before_loss : 0;
    hand_out(whole, report);
}

/// Whether the operation would race with one launched before, or with itself.
bool overlaps_outstanding(pcclComm_t &comm, const ReduceRequest &request) {
    if (request.overlaps_itself()) return true;
    for (const auto &[tag, calls] : comm.outstanding) {
        for (const auto &call : calls) {
            if (!call->done && request.overlaps(call->reduce)) return true;
        }
    }
    return false;
}

template <class Out>
pcclResult_t all_reduce(const void *send, void *recv, const pcclReduceDescriptor_t *descriptor, const pcclReduceOptions_t *options,
                        const pcclComm_t *communicator, Out *out) {
    const auto request = to_request(send, recv, descriptor, options);
    if (!request) return fail(request.error());
    if (!communicator) return fail(invalid("communicator is NULL"));
    auto &runtime = mutable_of(communicator)->runtime;
    if (const auto status = runtime.check_connected(); !status) return fail(status.error());
    const CallPtr call = runtime.all_reduce({descriptor->tag}, *request);
    const pcclResult_t result = await_reduce(call);
    fill(out, call->reduce);
    return result;
}

pcclResult_t launch(const void *send, void *recv, const pcclReduceDescriptor_t *descriptor, const pcclReduceOptions_t *options,
                    const pcclComm_t *communicator, pcclAsyncReduceOp_t *handle) {
    const auto request = to_request(send, recv, descriptor, options);
    if (!request) return fail(request.error());
    if (!communicator) return fail(invalid("communicator is NULL"));
    if (!handle) return fail(invalid("reduce_handle_out is NULL"));
    auto &comm = *mutable_of(communicator);
    if (const auto status = comm.runtime.check_connected(); !status) return fail(status.error());
    CallPtr refused;
    {
        // One lock for all: handles of a tag are awaited in order of launch.
        const std::lock_guard lock(comm.mutex);
        const bool conflict = overlaps_outstanding(comm, *request);
        const CallPtr call = comm.runtime.all_reduce({descriptor->tag}, *request);
        if (conflict) refused = call;
        else comm.outstanding[descriptor->tag].push_back(call);
    }
    // It fails at every member, so that none waits for it; here, at its launch.
    if (refused) return await_reduce(refused);
    *handle = {&comm, descriptor->tag};
    return pcclSuccess;
}

template <class Out> pcclResult_t await_launched(const pcclAsyncReduceOp_t *handle, Out *out) {
    if (!handle) return fail(invalid("reduce_handle is NULL"));
    if (!handle->comm) return fail(invalid("reduce_handle->comm is NULL"));
    auto &comm = *handle->comm;
    CallPtr call;
    {
        const std::lock_guard lock(comm.mutex);
        const auto found = comm.outstanding.find(handle->tag);
        if (found == comm.outstanding.end()) {
            return fail(pcclInvalidUsage, "no operation with tag " + std::to_string(handle->tag) +
                                              " is outstanding: it was awaited before, or never launched");
        }
        call = found->second.front();
        found->second.pop_front();
        // Still outstanding for pcclUpdateTopology and its like: an empty queue stays until the operation has ended.
    }
    const pcclResult_t result = await_reduce(call);
    fill(out, call->reduce);
    const std::lock_guard lock(comm.mutex);
    const auto found = comm.outstanding.find(handle->tag);
    if (found != comm.outstanding.end() && found->second.empty()) comm.outstanding.erase(found);
    return result;
}

}  // namespace

extern "C" {

pcclResult_t pcclAllReduce(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                           const pcclComm_t *communicator, pcclReduceInfo_t *reduce_info_out) {
    return guarded_initialized([&] { return all_reduce(sendbuff, recvbuff, descriptor, nullptr, communicator, reduce_info_out); });
}

pcclResult_t pcclAllReduceWithOptions(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                      const pcclReduceOptions_t *options, const pcclComm_t *communicator, pcclReduceReport_t *report) {
    return guarded_initialized([&] {
        if (const auto status = check(report); !status) return fail(status.error());
        return all_reduce(sendbuff, recvbuff, descriptor, options, communicator, report);
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
    return guarded_initialized([&] { return launch(sendbuff, recvbuff, descriptor, nullptr, communicator, reduce_handle_out); });
}

pcclResult_t pcclAllReduceAsyncWithOptions(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                           const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                           pcclAsyncReduceOp_t *reduce_handle_out) {
    return guarded_initialized([&] { return launch(sendbuff, recvbuff, descriptor, options, communicator, reduce_handle_out); });
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

pcclResult_t pcclAllReduceMultipleWithRetry(const pcclReduceOpDescriptor_t *descriptors, size_t count, const pcclComm_t *communicator,
                                            pcclReduceInfo_t *reduce_info_out, int max_in_flight) {
    return guarded_initialized([&] {
        if (!descriptors) return fail(invalid("descriptors is NULL"));
        if (count == 0) return fail(invalid("count is 0"));
        if (max_in_flight < 1) return fail(invalid("max_in_flight is below 1"));
        if (!communicator) return fail(invalid("communicator is NULL"));
        std::vector<std::uint64_t> tags;
        std::vector<ReduceRequest> requests;
        for (std::size_t i = 0; i < count; ++i) {
            const auto &d = descriptors[i];
            auto request = to_request(d.sendbuf, d.recvbuf, &d.descriptor, nullptr);
            if (!request) return fail(invalid("descriptors[" + std::to_string(i) + "]: " + request.error().what));
            requests.push_back(std::move(*request));
            tags.push_back(d.descriptor.tag);
        }
        std::ranges::sort(tags);
        if (std::ranges::adjacent_find(tags) != tags.end()) {
            return fail(invalid("two descriptors have the same tag " + std::to_string(*std::ranges::adjacent_find(tags))));
        }
        auto &runtime = mutable_of(communicator)->runtime;
        if (const auto status = runtime.check_connected(); !status) return fail(status.error());
        const std::uint64_t aborts = runtime.aborts();

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
                flying.emplace_back(i, runtime.all_reduce({descriptors[i].descriptor.tag}, requests[i]));
            }
            const auto [i, call] = flying.front();
            flying.pop_front();
            const pcclResult_t result = await_reduce(call);
            const ReduceRequest &reduce = call->reduce;
            total.tx_bytes += reduce.tx_bytes;
            total.rx_bytes += reduce.rx_bytes;
            if (result == pcclSuccess) {
                total.local_world_size = total.local_world_size == 0 ? reduce.world : std::min(total.local_world_size, reduce.world);
            } else if (result == pcclRankConnectionLost && runtime.check_connected() && runtime.aborts() == aborts) {
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

}  // extern "C"
