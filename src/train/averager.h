// Averages in the background: one all-reduce (and what belongs to it) after another, each repeated among the survivors until it
// is done.
//
// Guarantee: an average ends the same way at all members that do not leave. All of its reductions are done by the same members,
// or all are repeated: so a weight always belongs to the contribution that it came with. What was contributed is intact until the
// end. A contribution that is not finite is left out: its peer gives zeros, all members learn it beside the average
// (train/ballot.h), and the average is that of the others. Where all contributions are finite, no bit of the average depends on
// this. A worker carries out what launch() was given, in that order; one thread owns this and calls.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "train/ballot.h"
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
    std::size_t not_finite = kAllFinite;  ///< the first element that is not; `count`: the weight is not
    bool stale = false;                   ///< this peer has contributed nothing for so long that it needs the run's state
    bool verify = false;                  ///< compare `digest` with the others'
    std::uint64_t digest = 0;
};

constexpr std::uint64_t kTagsPerAverage = 8;

struct Average {
    Outcome outcome;
    std::uint32_t world = 0;  ///< members that took part: 1 where all others were lost, and then it is this peer's own
    bool nothing =
        false;  ///< no average: the weights add up to nothing, nobody's contribution counts, or the average is not finite
    bool diverged = false;                    ///< the digests differ: known to all members
    std::uint32_t counted = 0, left_out = 0;  ///< contributions that are in it, and those that were not finite
    Culprit culprit;                          ///< one of the latter
    std::size_t overflow = kAllFinite;  ///< the first element of the average that is not finite though all contributions are
    std::size_t step_overflow =
        kAllFinite;      ///< an element of the outer step that is not finite though the average is (sharded steps)
    bool stale = false;  ///< some members, not all, need the run's state: known to all
    bool own_left_out = false, own_stale = false;
    std::uint64_t tx_bytes = 0;
    std::uint64_t rx_bytes = 0;
    double seconds = 0.0;  ///< that it was under way
};

/// Operations that are launched at once and judged as one.
class Together {
public:
    explicit Together(Collectives &collectives) : collectives_(collectives) {}
    void add(const Reduce &reduce) { reduces_.push_back(reduce); }
    /// Waits for all, including after a failure, and adds up their bytes. pcclRankConnectionLost: repeat them, as at all members.
    /// `out.world` is that of the first operation. The others must have the same one, or a larger one where the first was
    /// repaired.
    Outcome run(Average &out);
    /// Members that took part in the operations after the first.
    std::uint32_t members() const { return members_; }

private:
    Collectives &collectives_;
    std::uint32_t members_ = 0;
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
    /// All outlive it. Once `interrupted` is set nothing is repeated any more. A peer needs the run's state when this many of its
    /// contributions in a row were not finite.
    Averager(Collectives &collectives, Reducer &reducer, const std::atomic<bool> &interrupted, std::uint32_t stale_after);
    ~Averager();  ///< aborts what is under way
    Averager(const Averager &) = delete;
    Averager &operator=(const Averager &) = delete;

    void launch(const Contribution &contribution);
    /// The result of the earliest launch that was not waited for yet.
    Average wait();
    /// This peer has the run's state now. Not while an average is under way.
    void renew() { streak_ = 0; }

private:
    Average carry_out(Contribution c);

    Collectives &collectives_;
    Reducer &reducer_;
    const std::atomic<bool> &interrupted_;
    std::atomic<bool> stop_{false};
    const std::uint32_t stale_after_;
    std::uint32_t streak_ = 0;      ///< contributions in a row that were left out; the worker's
    std::deque<Average> averages_;  ///< of what was launched and not waited for
    const std::unique_ptr<Worker> worker_;
};

}  // namespace pccl::train
