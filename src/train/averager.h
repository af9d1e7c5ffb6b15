// Averages in the background: one all-reduce (and what belongs to it) after another, each repeated among the survivors until it is done.
//
// Guarantee: an average ends the same way at all members that do not leave. All of its reductions are done by the same members, or all are
// repeated: so a weight always belongs to the contribution that it came with. What was contributed is intact until the end.
// A worker carries out what launch() was given, in that order; one thread owns this and calls.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "train/collectives.h"
#include "train/outcome.h"
#include "train/worker.h"

namespace pccl::train {

/// One average of float32 elements.
struct Contribution {
    float *send = nullptr;  ///< `count` elements and, if weighted, a spare one
    float *recv = nullptr;  ///< likewise; gets the average
    std::size_t count = 0;
    std::uint64_t tag = 0;  ///< and the kTagsPerAverage - 1 after it
    pcclQuantizationOptions_t quantization{};
    bool weighted = false;
    double weight = 1.0;
    bool verify = false;  ///< compare `digest` with the others'
    std::uint64_t digest = 0;
};

constexpr std::uint64_t kTagsPerAverage = 8;

struct Average {
    Outcome outcome;
    std::uint32_t world = 0;  ///< members that took part: 1 where all others were lost, and then it is this peer's own
    bool nothing = false;     ///< the weights add up to nothing: no average
    bool diverged = false;    ///< the digests differ: known to all members
    std::uint64_t tx_bytes = 0;
    std::uint64_t rx_bytes = 0;
    double seconds = 0.0;  ///< that it was under way
};

/// Operations that are launched at once and judged as one.
class Together {
public:
    explicit Together(Collectives &collectives) : collectives_(collectives) {}
    void add(const Reduce &reduce) { reduces_.push_back(reduce); }
    /// Waits for all, also after a failure, and adds up their bytes. pcclRankConnectionLost: to be repeated, as at all members.
    Outcome run(Average &out);

private:
    Collectives &collectives_;
    std::vector<Reduce> reduces_;
};

pcclReduceDescriptor_t describe_reduce(std::size_t count, pcclRedOp_t op, std::uint64_t tag, pcclDataType_t type);

/// One way to carry out an average.
class Reducer {
public:
    virtual ~Reducer() = default;
    /// pcclRankConnectionLost: is made again.
    virtual Outcome attempt(const Contribution &c, Average &out) = 0;
};

/// An all-reduce, and what belongs to it.
class WholeAverage final : public Reducer {
public:
    explicit WholeAverage(Collectives &collectives) : collectives_(collectives) {}
    Outcome attempt(const Contribution &c, Average &out) override;

private:
    Collectives &collectives_;
};

class Averager {
public:
    /// All outlive it. Once `interrupted` is set nothing is repeated any more.
    Averager(Collectives &collectives, Reducer &reducer, const std::atomic<bool> &interrupted);
    ~Averager();  ///< aborts what is under way
    Averager(const Averager &) = delete;
    Averager &operator=(const Averager &) = delete;

    void launch(const Contribution &contribution);
    /// The result of the earliest launch that was not waited for yet.
    Average wait();

private:
    Average carry_out(const Contribution &c);

    Collectives &collectives_;
    Reducer &reducer_;
    const std::atomic<bool> &interrupted_;
    std::atomic<bool> stop_{false};
    std::deque<Average> averages_;  ///< of what was launched and not waited for
    const std::unique_ptr<Worker> worker_;
};

}  // namespace pccl::train
