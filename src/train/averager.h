// Averages in the background, one after another. An average is an all-reduce and the small reductions that belong to it. It is
// repeated among the survivors until it succeeds.
//
// Guarantee: an average ends the same way at all members that do not leave. All of its reductions are done by the same members,
// or all are repeated, so a weight always belongs to the contribution that it was sent with. The contributed buffers are
// unchanged until the end. A contribution that is not finite is left out: its peer contributes zeros, all members learn this with
// the average (train/ballot.h), and the average is that of the others. Where all contributions are finite, no bit of the average
// depends on this. A worker carries out the launched averages in the order of the launch() calls. One thread owns the averager
// and calls it.
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
    float *recv = nullptr;  ///< as `send`; receives the average
    std::size_t count = 0;
    std::uint64_t tag = 0;  ///< first of kTagsPerAverage consecutive tags
    pcclQuantizationOptions_t quantization{};
    bool weighted = false;
    double weight = 1.0;
    std::size_t not_finite = kAllFinite;  ///< the first element that is not finite; `count` names the weight
    bool stale = false;                   ///< this peer has contributed nothing for several rounds and needs the run's state
    bool verify = false;                  ///< compare `digest` with the others'
    std::uint64_t digest = 0;
};

constexpr std::uint64_t kTagsPerAverage = 8;

struct Average {
    Outcome outcome;
    std::uint32_t world = 0;  ///< members that took part; 1: all others were lost, and this is the own contribution
    bool nothing = false;  ///< there is no average: the weights add up to 0, no contribution counts, or the average is not finite
    bool diverged = false;                    ///< the digests differ; equal at all members
    std::uint32_t counted = 0, left_out = 0;  ///< contributions in the average; contributions that were not finite
    Culprit culprit;                          ///< one of the contributions that were left out
    std::size_t overflow = kAllFinite;  ///< the first element of the average that is not finite although all contributions are
    std::size_t step_overflow =
        kAllFinite;      ///< an element of the outer step that is not finite although the average is (sharded steps)
    bool stale = false;  ///< some members, but not all, need the run's state; equal at all members
    bool own_left_out = false, own_stale = false;
    std::uint64_t tx_bytes = 0;
    std::uint64_t rx_bytes = 0;
    double seconds = 0.0;  ///< time from launch to end
};

/// Operations that are launched at the same time and have one outcome.
class Together {
public:
    explicit Together(Collectives &collectives) : collectives_(collectives) {}
    void add(const Reduce &reduce) { reduces_.push_back(reduce); }
    /// Waits for all operations, including after a failure, and adds up their bytes. After pcclRankConnectionLost the caller
    /// repeats them, as all members do. `out.world` is the world size of the first operation. The other operations must have the
    /// same size, or a larger size if the first was repaired.
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
    /// Makes one attempt. After pcclRankConnectionLost the caller makes another.
    virtual Outcome attempt(const Contribution &c, Average &out) = 0;
};

/// An average as one all-reduce, with the ballot (train/ballot.h).
class WholeAverage final : public Reducer {
public:
    explicit WholeAverage(Collectives &collectives) : collectives_(collectives) {}
    Outcome attempt(const Contribution &c, Average &out) override;

private:
    Collectives &collectives_;
};

class Averager {
public:
    /// The arguments must outlive the averager. Once `interrupted` is set, nothing is repeated. A peer needs the run's state when
    /// `stale_after` of its contributions in a row were not finite.
    Averager(Collectives &collectives, Reducer &reducer, const std::atomic<bool> &interrupted, std::uint32_t stale_after);
    ~Averager();  ///< aborts the averages in flight
    Averager(const Averager &) = delete;
    Averager &operator=(const Averager &) = delete;

    void launch(const Contribution &contribution);
    /// Waits for the earliest launch that was not waited for, and returns its result.
    Average wait();
    /// This peer has the run's state now. Must not be called while an average is in flight.
    void renew() { streak_ = 0; }

private:
    Average carry_out(Contribution c);

    Collectives &collectives_;
    Reducer &reducer_;
    const std::atomic<bool> &interrupted_;
    std::atomic<bool> stop_{false};
    const std::uint32_t stale_after_;
    std::uint32_t streak_ = 0;      ///< contributions in a row that were left out; only the worker uses it
    std::deque<Average> averages_;  ///< one for each launch that was not waited for
    const std::unique_ptr<Worker> worker_;
};

}  // namespace pccl::train
