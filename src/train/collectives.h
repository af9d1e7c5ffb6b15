// The calls that a trainer makes on a communicator: one function per call of pccl.h, so that trainers can be tested without
// processes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <pccl/collectives.h>
#include <pccl/pccl.h>

#include "train/clock.h"
#include "train/exchange.h"
#include "train/outcome.h"
#include "train/worker.h"

namespace pccl::train {

/// One all-reduce, or half of one.
struct Reduce {
    enum class Kind { all_reduce, reduce_scatter, all_gather };
    const void *send = nullptr;
    void *recv = nullptr;
    pcclReduceDescriptor_t what{};
    bool with_options = false;  ///< use the reduce options of the trainer's configuration
    Kind kind = Kind::all_reduce;
    const pcclShard_t *shard = nullptr;  ///< for reduce_scatter and all_gather
};

struct ReduceReport {
    std::uint32_t world = 0;
    std::uint64_t tx_bytes = 0;
    std::uint64_t rx_bytes = 0;
};

/// Each function does the same as the call of that name in pccl.h. launch, await and abort are thread-safe.
class Collectives {
public:
    virtual ~Collectives() = default;
    virtual bool connected() = 0;
    /// Members of this peer's group at the last call; 0: not connected.
    virtual std::uint32_t world() = 0;
    /// The number of this peer in logs; 0: not connected.
    virtual std::uint64_t self() = 0;
    /// Whether operations with options continue without a lost member (pcclLossPolicyRepair).
    virtual bool repairs() const { return false; }
    virtual Outcome connect() = 0;
    virtual Outcome are_peers_pending(bool &pending) = 0;
    virtual Outcome update_topology() = 0;
    virtual Outcome optimize_topology() = 0;
    virtual Outcome synchronize(pcclSharedState_t &state, pcclSharedStateSyncStrategy_t strategy,
                                pcclSharedStateSyncInfo_t &info) = 0;
    virtual Outcome shard(std::size_t count, pcclShard_t &shard) = 0;
    virtual Outcome launch(const Reduce &reduce) = 0;
    virtual Outcome await(std::uint64_t tag, ReduceReport &report) = 0;
    virtual void abort() = 0;
    /// The exchange of the same communicator. This object owns it.
    virtual Exchange *exchange() = 0;
    /// The clock that measures the duration of calls.
    virtual Clock &clock() { return machine_clock(); }
    /// A worker that makes calls while the trainer's thread does something else.
    virtual std::unique_ptr<Worker> worker() { return make_thread(); }
};

/// The collectives of a communicator, which must outlive them. `options` is copied and may be NULL.
std::unique_ptr<Collectives> collectives_of(pcclComm_t *comm, const pcclReduceOptions_t *options);

}  // namespace pccl::train
