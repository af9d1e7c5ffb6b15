#include "train/averager.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "train/vector.h"

namespace pccl::train {
namespace {

/// Alone is alone; being out of the run, or misuse, ends it; a loss is repeated.
int severity(pcclResult_t code) { return code == pcclSuccess ? 0 : code == pcclRankConnectionLost ? 1 : code == pcclTooFewPeers ? 2 : 3; }

}  // namespace

pcclReduceDescriptor_t describe_reduce(std::size_t count, pcclRedOp_t op, std::uint64_t tag, pcclDataType_t type) {
    pcclReduceDescriptor_t d{};
    d.count = count;
    d.op = op;
    d.tag = tag;
    d.src_descriptor.datatype = type;
    return d;
}

Outcome Together::run(Average &out) {
    Outcome worst;
    const auto note = [&worst](Outcome outcome) {
        if (severity(outcome.code) > severity(worst.code)) worst = std::move(outcome);
    };
    std::vector<std::uint64_t> launched;
    for (const Reduce &reduce : reduces_) {
        auto outcome = collectives_.launch(reduce);
        if (outcome.ok()) launched.push_back(reduce.what.tag);
        else note(std::move(outcome));
    }
    std::vector<std::uint32_t> worlds;
    for (const std::uint64_t tag : launched) {
        ReduceReport report;
        note(collectives_.await(tag, report));
        worlds.push_back(report.world);
        out.tx_bytes += report.tx_bytes;
        out.rx_bytes += report.rx_bytes;
    }
    if (!worst.ok()) return worst;
    out.world = worlds.front();
    if (std::ranges::any_of(worlds, [&](std::uint32_t world) { return world != out.world; })) {
        return {pcclRankConnectionLost, "a peer was lost between two reductions that belong together"};
    }
    return {};
}

Averager::Averager(Collectives &collectives, Reducer &reducer, const std::atomic<bool> &interrupted)
    : collectives_(collectives), reducer_(reducer), interrupted_(interrupted), worker_(collectives.worker()) {}

Averager::~Averager() {
    stop_ = true;
    worker_->drop([this] { collectives_.abort(); }, std::chrono::milliseconds(0));
}

void Averager::launch(const Contribution &contribution) {
    Average &out = averages_.emplace_back();
    worker_->begin([this, contribution, &out] {
        const auto start = collectives_.clock().now();
        out = carry_out(contribution);
        out.seconds = std::chrono::duration<double>(collectives_.clock().now() - start).count();
    });
}

Average Averager::wait() {
    worker_->wait();
    Average result = std::move(averages_.front());
    averages_.pop_front();
    return result;
}

Average Averager::carry_out(const Contribution &c) {
    Average out;
    const bool in_one = c.weighted && c.quantization.algorithm == pcclQuantNone;
    if (c.weighted) {
        const auto weight = static_cast<float>(c.weight);
        multiply(c.send, weight, c.count);
        c.send[c.count] = in_one ? weight : 0.0F;
    }
    for (;;) {
        out.outcome = reducer_.attempt(c, out);
        const bool again = out.outcome.code == pcclRankConnectionLost && !stop_ && !interrupted_;
        if (!again) break;
    }
    return out;
}

Outcome WholeAverage::attempt(const Contribution &c, Average &out) {
    const bool quantized = c.quantization.algorithm != pcclQuantNone;
    const bool weight_inside = c.weighted && !quantized, weight_beside = c.weighted && quantized;
    double weight = static_cast<float>(c.weight), weights = 0.0;
    std::uint64_t lowest = c.digest, highest = c.digest;

    Together ops(collectives_);
    auto what = describe_reduce(c.count + (weight_inside ? 1 : 0), c.weighted ? pcclSum : pcclAvg, c.tag, pcclFloat);
    what.quantization_options = c.quantization;
    ops.add({c.send, c.recv, what, true});
    if (weight_beside) ops.add({&weight, &weights, describe_reduce(1, pcclSum, c.tag + 1, pcclDouble)});
    if (c.verify) {
        ops.add({&c.digest, &lowest, describe_reduce(1, pcclMin, c.tag + 2, pcclUint64)});
        ops.add({&c.digest, &highest, describe_reduce(1, pcclMax, c.tag + 3, pcclUint64)});
    }
    const auto outcome = ops.run(out);
    if (outcome.code == pcclTooFewPeers) {
        out.world = 1;
        std::memcpy(c.recv, c.send, what.count * sizeof(float));
        weights = weight;
        lowest = highest = c.digest;
    } else if (!outcome.ok()) {
        return outcome;
    }
    out.diverged = lowest != highest;
    if (c.weighted) {
        const float sum = quantized ? static_cast<float>(weights) : c.recv[c.count];
        out.nothing = !(sum > 0.0F);
        if (!out.nothing) divide(c.recv, sum, c.count);
    }
    return {};
}

}  // namespace pccl::train
