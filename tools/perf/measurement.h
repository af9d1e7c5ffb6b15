// The buffers of one case for all concurrent operations. Runs one iteration of the case at a time.
#pragma once

#include "common/check.h"
#include "perf/options.h"

#include <cstdint>
#include <vector>

namespace pccl::perf {

/// The results of one iteration at one peer.
struct Iteration {
    std::uint64_t tx_bytes = 0;  ///< total of all operations
    pcclReduceAlgorithm_t algorithm = pcclAlgorithmAuto;
    std::uint32_t lanes = 0;
    std::uint64_t chunk_bytes = 0;
};

class Measurement {
public:
    Measurement(const Options &options, const pcclComm_t *comm, int rank, const tools::Case &what);

    /// Throws tools::CallFailed, or std::runtime_error if the number of peers changed.
    Iteration iterate();

    /// Runs one more iteration on new inputs and checks it. Prints the first wrong element on standard error.
    tools::Verdict check();

    /// Bytes of the send and receive buffers.
    std::uint64_t buffer_bytes() const;

private:
    const Options &options_;
    const pcclComm_t *comm_;
    int rank_;
    tools::Case what_;
    std::vector<std::vector<unsigned char>> send_;
    std::vector<std::vector<unsigned char>> receive_;
    std::vector<std::vector<unsigned char>> part_;  ///< the shards of a reduce-scatter and an all-gather
    pcclShard_t shard_{};                           ///< the shard that `part_` holds

    void *result(std::size_t i) { return options_.in_place ? send_[i].data() : receive_[i].data(); }
    void *part(std::size_t i) {
        return options_.in_place ? send_[i].data() + shard_.first * tools::size_of(what_.type) : part_[i].data();
    }
    void fill();
    /// One operation on each of the buffers, at the same time. Never `both`.
    void perform(Collective collective, Iteration &iteration);
    void call(Collective collective, std::size_t i, const pcclReduceOptions_t &how, pcclReduceReport_t &report);
    void launch(Collective collective, std::size_t i, const pcclReduceOptions_t &how, pcclAsyncReduceOp_t &handle);
    void finished(const pcclReduceReport_t &report, Iteration &iteration) const;
    pcclReduceDescriptor_t descriptor(std::size_t i) const;
};

}  // namespace pccl::perf
