// See train/averager.h.
#include "train/averager.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "train/vector.h"

namespace pccl::train {
namespace {

/// The outcome of several operations is the one with the highest severity: 1 is repeated, 2 means that this peer is alone, and 3
/// (out of the run, or misuse of the API) ends the average.
int severity(pcclResult_t code) {
    return code == pcclSuccess ? 0 : code == pcclRankConnectionLost ? 1 : code == pcclTooFewPeers ? 2 : 3;
}

/// The first element that is not finite, in the form of Contribution::not_finite.
std::size_t first_of(const float *x, std::size_t count) {
    const std::size_t first = first_not_finite(x, count);
    return first == count ? kAllFinite : first;
}

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
        if (outcome.ok())
            launched.push_back(reduce.what.tag);
        else
            note(std::move(outcome));
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
    members_ = worlds.back();
    const bool repaired = reduces_.front().with_options && collectives_.repairs() && out.world < members_;
    const auto others = std::span(worlds).subspan(repaired ? 1 : 0);
    if (std::ranges::any_of(others, [&](std::uint32_t world) { return world != members_; })) {
        return {pcclRankConnectionLost, "a peer was lost between two reductions that belong together"};
    }
    return {};
}

Averager::Averager(Collectives &collectives, Reducer &reducer, const std::atomic<bool> &interrupted, std::uint32_t stale_after)
    : collectives_(collectives), reducer_(reducer), interrupted_(interrupted), stale_after_(stale_after),
      worker_(collectives.worker()) {}

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

Average Averager::carry_out(Contribution c) {
    Average out;
    const bool in_one = c.weighted && c.quantization.algorithm == pcclQuantNone;
    if (c.weighted && c.not_finite == kAllFinite) {
        const auto weight = static_cast<float>(c.weight);
        multiply(c.send, weight, c.count);
        c.send[c.count] = in_one ? weight : 0.0F;
        c.not_finite = std::isfinite(weight) ? first_of(c.send, c.count) : c.count;
    }
    if (c.not_finite != kAllFinite) std::fill_n(c.send, c.count + (c.weighted ? 1 : 0), 0.0F);
    streak_ = c.not_finite == kAllFinite ? 0 : streak_ + 1;
    c.stale = streak_ >= stale_after_;
    for (;;) {
        out.outcome = reducer_.attempt(c, out);
        const bool again = out.outcome.code == pcclRankConnectionLost && !stop_ && !interrupted_;
        if (!again) break;
    }
    return out;
}

Outcome WholeAverage::attempt(const Contribution &c, Average &out) {
    const bool quantized = c.quantization.algorithm != pcclQuantNone;
    const bool weight_inside = c.weighted && !quantized;
    Ballot ballot(c, collectives_.self());
    Together ops(collectives_);
    auto what = describe_reduce(c.count + (weight_inside ? 1 : 0), c.weighted ? pcclSum : pcclAvg, c.tag, pcclFloat);
    what.quantization_options = c.quantization;
    ops.add({c.send, c.recv, what, true});
    ballot.add_to(ops, c.tag + 1);
    const auto outcome = ops.run(out);
    if (outcome.code == pcclTooFewPeers) {
        out.world = 1;
        std::memcpy(c.recv, c.send, what.count * sizeof(float));
        ballot.stand_alone();
    } else if (!outcome.ok()) {
        return outcome;
    }
    const std::uint32_t members = outcome.ok() ? ops.members() : 1;
    ballot.count(members, out);
    // A repaired average divides some elements by fewer members than others, and no member knows which elements lack the
    // contribution that was left out.
    if (out.left_out != 0 && out.world != members)
        return {pcclRankConnectionLost, "a peer was lost during an average from which another contribution was left out"};
    if (c.weighted) {
        const float sum = quantized ? static_cast<float>(ballot.weights()) : c.recv[c.count];
        if (!std::isfinite(sum)) out.overflow = c.count;
        out.nothing |= !(sum > 0.0F) || out.overflow != kAllFinite;
        if (!out.nothing) divide(c.recv, sum, c.count);
    } else if (out.left_out != 0 && !out.nothing) {
        multiply(c.recv, static_cast<float>(members) / static_cast<float>(out.counted), c.count);
    }
    if (!out.nothing) out.overflow = first_of(c.recv, c.count);
    out.nothing |= out.overflow != kAllFinite;
    return {};
}

}  // namespace pccl::train
