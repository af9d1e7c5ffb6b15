#include "perf/measurement.h"

#include "common/elements.h"
#include "common/handles.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace pccl::perf {

Measurement::Measurement(const Options &options, const pcclComm_t *comm, int rank, const tools::Case &what)
    : options_(options), comm_(comm), rank_(rank), what_(what) {
    const std::size_t bytes = what.count * tools::size_of(what.type);
    for (int i = 0; i < options.concurrent; ++i) {
        send_.emplace_back(bytes);
        if (!options.in_place) receive_.emplace_back(bytes);
    }
    if (options.collective != Collective::all_reduce) {
        tools::require("pcclGetShard", pcclGetShard(comm, what.count, &shard_));
        for (int i = 0; !options.in_place && i < options.concurrent; ++i)
            part_.emplace_back(shard_.elements * tools::size_of(what.type));
    }
    fill();
}

Iteration Measurement::iterate() {
    Iteration iteration;
    if (options_.collective != Collective::both) {
        perform(options_.collective, iteration);
        return iteration;
    }
    perform(Collective::reduce_scatter, iteration);
    perform(Collective::all_gather, iteration);
    return iteration;
}

void Measurement::perform(Collective collective, Iteration &iteration) {
    pcclReduceOptions_t how{};
    tools::require("pcclReduceOptionsInit", pcclReduceOptionsInit(&how));
    how.algorithm = options_.algorithm;
    how.quantization_block = what_.packing.block;
    how.quantization_scale = what_.packing.scale;
    how.error_feedback = options_.error_feedback && collective != Collective::all_gather;
    how.on_peer_loss = options_.on_peer_loss;
    pcclReduceReport_t report{};
    tools::require("pcclReduceReportInit", pcclReduceReportInit(&report));
    if (options_.concurrent == 1) {
        call(collective, 0, how, report);
        return finished(report, iteration);
    }
    std::vector<pcclAsyncReduceOp_t> handles(send_.size());
    for (std::size_t i = 0; i < send_.size(); ++i)
        launch(collective, i, how, handles[i]);
    for (const pcclAsyncReduceOp_t &handle : handles) {
        tools::require("pcclAwaitAsyncReduce", pcclAwaitAsyncReduceWithReport(&handle, &report));
        finished(report, iteration);
    }
}

void Measurement::call(Collective collective, std::size_t i, const pcclReduceOptions_t &how, pcclReduceReport_t &report) {
    const auto d = descriptor(i);
    switch (collective) {
    case Collective::reduce_scatter:
        return tools::require("pcclReduceScatter",
                              pcclReduceScatter(send_[i].data(), part(i), &d, &shard_, &how, comm_, &report));
    case Collective::all_gather:
        return tools::require("pcclAllGather", pcclAllGather(part(i), result(i), &d, &shard_, &how, comm_, &report));
    case Collective::all_reduce:
    case Collective::both: break;
    }
    tools::require("pcclAllReduce", pcclAllReduceWithOptions(send_[i].data(), result(i), &d, &how, comm_, &report));
}

void Measurement::launch(Collective collective, std::size_t i, const pcclReduceOptions_t &how, pcclAsyncReduceOp_t &handle) {
    const auto d = descriptor(i);
    switch (collective) {
    case Collective::reduce_scatter:
        return tools::require("pcclReduceScatterAsync",
                              pcclReduceScatterAsync(send_[i].data(), part(i), &d, &shard_, &how, comm_, &handle));
    case Collective::all_gather:
        return tools::require("pcclAllGatherAsync", pcclAllGatherAsync(part(i), result(i), &d, &shard_, &how, comm_, &handle));
    case Collective::all_reduce:
    case Collective::both: break;
    }
    tools::require("pcclAllReduceAsync", pcclAllReduceAsyncWithOptions(send_[i].data(), result(i), &d, &how, comm_, &handle));
}

void Measurement::finished(const pcclReduceReport_t &report, Iteration &iteration) const {
    if (static_cast<int>(report.world_size) != what_.ranks) {
        throw std::runtime_error("the number of peers changed from " + std::to_string(what_.ranks) + " to " +
                                 std::to_string(report.world_size) + " during the measurement; start again");
    }
    iteration.tx_bytes += report.tx_bytes;
    iteration.algorithm = report.algorithm;
    iteration.lanes = report.lanes;
    iteration.chunk_bytes = report.chunk_bytes;
}

tools::Verdict Measurement::check() {
    fill();
    Iteration ignored;
    if (options_.collective == Collective::all_reduce) {
        perform(Collective::all_reduce, ignored);
    } else {  // the result of both halves checks each of them
        perform(Collective::reduce_scatter, ignored);
        perform(Collective::all_gather, ignored);
    }
    tools::Verdict total;
    for (std::size_t i = 0; i < send_.size(); ++i) {
        tools::Case what = what_;
        what.buffer = static_cast<int>(i);
        const tools::Verdict verdict = tools::check_result(what, result(i));
        if (verdict.wrong > 0 && total.wrong == 0) {
            std::fprintf(stderr,
                         "pccl-perf: peer %d: wrong result: %s %s of %zu elements, element %zu of buffer %zu: expected %.9g, "
                         "found %.9g\n",
                         rank_, tools::name_of(what.type), tools::name_of(what.op), what.count, verdict.first_wrong, i,
                         verdict.expected, verdict.found);
        }
        total.wrong += verdict.wrong;
        total.relative_error = std::max(total.relative_error, verdict.relative_error);
    }
    return total;
}

std::uint64_t Measurement::buffer_bytes() const {
    std::uint64_t bytes = 0;
    for (const auto &buffer : send_)
        bytes += buffer.size();
    for (const auto &buffer : receive_)
        bytes += buffer.size();
    for (const auto &buffer : part_)
        bytes += buffer.size();
    return bytes;
}

void Measurement::fill() {
    for (std::size_t i = 0; i < send_.size(); ++i) {
        tools::Case what = what_;
        what.buffer = static_cast<int>(i);
        tools::fill_input(what, rank_, send_[i].data());
    }
}

pcclReduceDescriptor_t Measurement::descriptor(std::size_t i) const {
    pcclReduceDescriptor_t d{};
    d.count = what_.count;
    d.op = what_.op;
    d.tag = i;
    d.src_descriptor.datatype = what_.type;
    d.quantization_options = what_.packing.quantization;
    return d;
}

}  // namespace pccl::perf
