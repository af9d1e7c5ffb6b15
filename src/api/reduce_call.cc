// See reduce_call.h.
#include "api/reduce_call.h"

#include <string>

#include "api/arguments.h"
#include "api/structures.h"
#include "collective/repair_plan.h"
#include "op/quantization.h"

namespace pccl::api {

using peer::CallPtr;
using peer::ReduceRequest;

namespace {

/// "uint8, int8, int16 or uint16"
std::string names_of(op::TypeSet types) {
    std::string text;
    for (int t = 0; t < op::kPackedTypes; ++t) {
        const auto type = static_cast<op::Type>(t);
        if ((types & op::set_of(type)) == 0) continue;
        types &= ~op::set_of(type);
        text += std::string(text.empty() ? "" : types == 0 ? " or " : ", ") + op::name_of(type);
    }
    return text;
}

Status check_quantization(op::Quant algorithm, op::Type from, op::Type to) {
    if (!op::is_float(from)) {
        return invalid(
            "descriptor->src_descriptor.datatype is " + std::string(op::name_of(from)) +
            ", which cannot be quantized; use float16, bfloat16, float or double, or set the algorithm to pcclQuantNone");
    }
    if (!op::can_quantize(algorithm, from, to)) {
        return invalid("descriptor->quantization_options: " + std::string(op::name_of(algorithm)) + " does not pack to " +
                       op::name_of(to) + "; set quantized_datatype to " +
                       names_of(op::kQuantTable[static_cast<int>(algorithm)].types));
    }
    return {};
}

Status check(const pcclReduceDescriptor_t &d) {
    if (d.count == 0) return invalid("descriptor->count is 0. Pass at least one element");
    if (!within(d.op, op::kOps))
        return invalid("descriptor->op is " + std::to_string(number(d.op)) +
                       ", which is not an operator. Use a value of pcclRedOp_t");
    if (!within(d.src_descriptor.datatype, op::kTypes)) {
        return invalid("descriptor->src_descriptor.datatype is " + std::to_string(number(d.src_descriptor.datatype)) +
                       ", which is not an element type. Use pcclUint8 to pcclDouble");
    }
    const auto type = static_cast<op::Type>(d.src_descriptor.datatype);
    if (d.count > (std::size_t{1} << 62) / op::size_of(type))
        return invalid("descriptor->count is " + std::to_string(d.count) + ", which is larger than any memory");
    if (!within(d.src_descriptor.distribution_hint, 3))
        return invalid("descriptor->src_descriptor.distribution_hint is " +
                       std::to_string(number(d.src_descriptor.distribution_hint)) +
                       ", which is unknown. Use a value of pcclDistributionHint_t");
    const auto &q = d.quantization_options;
    if (!within(q.algorithm, op::kQuants))
        return invalid("descriptor->quantization_options.algorithm is " + std::to_string(number(q.algorithm)) +
                       ", which is unknown. Use a value of pcclQuantizationAlgorithm_t");
    if (q.algorithm == pcclQuantNone) return {};
    if (!within(q.quantized_datatype, op::kPackedTypes)) {
        return invalid("descriptor->quantization_options.quantized_datatype is " + std::to_string(number(q.quantized_datatype)) +
                       ", not a value of pcclDataType_t");
    }
    return check_quantization(static_cast<op::Quant>(q.algorithm), type, static_cast<op::Type>(q.quantized_datatype));
}

Result<pcclReduceOptions_t> read(const pcclReduceOptions_t *options) {
    pcclReduceOptions_t whole;
    set_fresh(whole);
    if (!options) return whole;
    if (const auto status = complete(*options, whole); !status) return status.error();
    if (!within(whole.algorithm, op::kAlgorithms))
        return invalid("options->algorithm is " + std::to_string(number(whole.algorithm)) +
                       ", which is unknown. Use a value of pcclReduceAlgorithm_t");
    if (!within(whole.quantization_scale, op::kScales)) {
        return invalid("options->quantization_scale is " + std::to_string(number(whole.quantization_scale)) +
                       ", which is unknown. Use a value of pcclQuantizationScale_t");
    }
    if (!within(whole.on_peer_loss, op::kLossPolicies))
        return invalid("options->on_peer_loss is " + std::to_string(number(whole.on_peer_loss)) +
                       ", which is unknown. Use a value of pcclLossPolicy_t");
    return whole;
}

/// Fills in defaults, so that a member that passes them explicitly agrees with one that passes zeros.
Result<op::Quantization> to_quantization(const pcclQuantizationOptions_t &q, const pcclReduceOptions_t &options) {
    const bool in_blocks = q.algorithm == pcclQuantBlockScale;
    const std::size_t block = options.quantization_block;
    if (!in_blocks && block != 0) return invalid("options->quantization_block is set, which requires pcclQuantBlockScale");
    if (block != 0 && !op::is_scale_block(block)) {
        return invalid("options->quantization_block is " + std::to_string(block) + ", not 32, 64, 128, 256 or 512");
    }
    op::Quantization how;
    if (q.algorithm == pcclQuantNone) return how;
    how.algorithm = static_cast<op::Quant>(q.algorithm);
    how.type = static_cast<op::Type>(q.quantized_datatype);
    if (!in_blocks) return how;
    how.block = static_cast<std::uint16_t>(block != 0 ? block : op::kDefaultScaleBlock);
    how.scale = static_cast<op::Scale>(options.quantization_scale);
    return how;
}

/// Returns whether the buffers overlap one another or those of an operation launched before.
bool overlaps_outstanding(pcclComm_t &comm, const ReduceRequest &request) {
    if (request.overlaps_itself()) return true;
    for (const auto &[tag, calls] : comm.outstanding) {
        for (const auto &call : calls) {
            if (!call->done && request.overlaps(call->reduce)) return true;
        }
    }
    return false;
}

}  // namespace

Result<ParsedReduce> parse_reduce(const pcclReduceDescriptor_t *descriptor, const pcclReduceOptions_t *options) {
    if (!descriptor) return invalid("descriptor is NULL");
    const auto &d = *descriptor;
    if (const auto status = check(d); !status) return status.error();
    const auto how = read(options);
    if (!how) return how.error();
    ParsedReduce parsed{{d.tag}, {}};
    ReduceRequest &request = parsed.request;
    request.spec.count = d.count;
    request.spec.type = static_cast<op::Type>(d.src_descriptor.datatype);
    request.spec.op = static_cast<op::Op>(d.op);
    request.spec.algorithm = static_cast<op::Algorithm>(how->algorithm);
    if (how->error_feedback) {
        const bool adds = d.op == pcclSum || d.op == pcclAvg;
        if (d.quantization_options.algorithm == pcclQuantNone)
            return invalid(
                "options->error_feedback is set, but nothing is quantized. Clear it or set descriptor->quantization_options");
        if (!adds)
            return invalid(
                "options->error_feedback is set, which only sums and averages support. Clear it, or use pcclSum or pcclAvg");
        request.spec.error_feedback = true;
    }
    request.spec.on_peer_loss = static_cast<op::LossPolicy>(how->on_peer_loss);
    request.check_finite = how->check_finite;
    if (request.repairs() && d.op != pcclAvg) {
        return invalid("options->on_peer_loss is pcclLossPolicyRepair, which only averages support: a repaired sum does not show "
                       "which contributions are "
                       "missing. Use pcclAvg or pcclLossPolicyRetry");
    }
    const auto quantization = to_quantization(d.quantization_options, *how);
    if (!quantization) return quantization.error();
    request.spec.quantization = *quantization;
    return parsed;
}

pcclResult_t await_reduce(const CallPtr &call) {
    call->wait();
    if (!call->committed) call->reduce.undo.restore();
    return call->code == pcclSuccess ? pcclSuccess : fail(call->code, call->why);
}

void fill(pcclReduceInfo_t *info, const ReduceRequest &reduce) {
    if (info) *info = {reduce.world, reduce.tx_bytes, reduce.rx_bytes};
}

Status check(const pcclComm_t *communicator) {
    if (!communicator) return invalid("communicator is NULL");
    return mutable_of(communicator)->runtime.check_connected();
}

Status check(const pcclReduceReport_t *report) { return report ? check_size(*report) : Status{}; }

void fill(pcclReduceReport_t *report, const ReduceRequest &reduce) {
    if (!report) return;
    pcclReduceReport_t whole;
    set_fresh(whole);
    whole.world_size = reduce.world;
    whole.lanes = static_cast<std::uint32_t>(reduce.lanes);
    whole.tx_bytes = reduce.tx_bytes;
    whole.rx_bytes = reduce.rx_bytes;
    whole.chunk_bytes = reduce.chunk_elements * op::size_of(reduce.spec.type);
    whole.algorithm = static_cast<pcclReduceAlgorithm_t>(reduce.algorithm);
    const auto took_part = reduce.finals.empty() ? collective::Participation{reduce.world, reduce.spec.count}
                                                 : collective::participation(reduce.finals);
    whole.repairs = reduce.repairs_made;
    whole.fewest_took_part = took_part.fewest;
    whole.fewest_elements = took_part.elements;
    whole.repair_tx_bytes = reduce.repairs_made > 0 ? reduce.tx_bytes - reduce.tx_before_loss : 0;
    whole.saved_tx_bytes = reduce.tx_saved;
    hand_out(whole, report);
}

pcclResult_t launch(const Result<ParsedReduce> &parsed, const pcclComm_t *communicator, pcclAsyncReduceOp_t *handle) {
    if (!parsed) return fail(parsed.error());
    if (!communicator) return fail(invalid("communicator is NULL"));
    if (!handle) return fail(invalid("reduce_handle_out is NULL"));
    if (const auto status = check(communicator); !status) return fail(status.error());
    auto &comm = *mutable_of(communicator);
    if (comm.runtime.alone()) return fail(pcclTooFewPeers, "this peer is alone in the peer group. Wait for other peers to join");
    const std::uint64_t tag = parsed->tag.value;
    CallPtr refused;
    {
        // One lock for the check and the launch: handles of a tag are awaited in the order of launch.
        const std::lock_guard lock(comm.mutex);
        const bool conflict = overlaps_outstanding(comm, parsed->request);
        const CallPtr call = comm.runtime.reduce(parsed->tag, parsed->request);
        if (conflict || call->refused)
            refused = call;
        else
            comm.outstanding[tag].push_back(call);
    }
    // With overlapping buffers the operation is started and fails, so that no other member waits for it. Here the launch fails.
    if (refused) return await_reduce(refused);
    *handle = {&comm, tag};
    return pcclSuccess;
}

}  // namespace pccl::api
