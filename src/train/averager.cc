#include "train/averager.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include <pccl/extend.h>

#include "train/vector.h"

namespace pccl::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kHookInterval = std::chrono::milliseconds(50);

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
    : collectives_(collectives), reducer_(reducer), interrupted_(interrupted) {}

Averager::~Averager() {
    if (!thread_.joinable()) return;
    stop_ = true;
    {
        std::unique_lock lock(mutex_);
        todo_.clear();
        wake_.notify_one();
        // Aborted again and again: an abort between two attempts ends nothing.
        while (working_) {
            lock.unlock();
            collectives_.abort();
            lock.lock();
            done_.wait_for(lock, std::chrono::milliseconds(10), [this] { return !working_; });
        }
    }
    thread_.join();
}

void Averager::launch(const Contribution &contribution) {
    if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
    ++pending_;
    const std::lock_guard lock(mutex_);
    todo_.push_back(contribution);
    wake_.notify_one();
}

Average Averager::wait() {
    std::unique_lock lock(mutex_);
    while (!done_.wait_for(lock, kHookInterval, [this] { return !finished_.empty(); })) {
        lock.unlock();
        pcclPollWaitHook();
        lock.lock();
    }
    Average result = std::move(finished_.front());
    finished_.pop_front();
    --pending_;
    return result;
}

void Averager::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return stop_ || !todo_.empty(); });
        if (stop_) return;
        const Contribution next = todo_.front();
        todo_.pop_front();
        working_ = true;
        lock.unlock();
        const auto start = Clock::now();
        Average result = carry_out(next);
        result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
        lock.lock();
        working_ = false;
        finished_.push_back(std::move(result));
        done_.notify_all();
    }
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
