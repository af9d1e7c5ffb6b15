// What a trainer asks of a communicator: one function per call of pccl.h, so that trainers can be tested without processes.
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
    bool with_options = false;  ///< as the trainer's configuration says
    Kind kind = Kind::all_reduce;
    const pcclShard_t *shard = nullptr;  ///< of the halves
};

struct ReduceReport {
    std::uint32_t world = 0;
    std::uint64_t tx_bytes = 0;
    std::uint64_t rx_bytes = 0;
};

/// Each function does what the call of that name in pccl.h does. launch, await and abort are thread-safe.
class Collectives {
public:
    virtual ~Collectives() = default;
    virtual bool connected() = 0;
    /// Members of its group, as the last call saw it; 0: not connected.
    virtual std::uint32_t world() = 0;
    /// The number by which logs name this peer; 0: not connected.
    virtual std::uint64_t self() = 0;
    /// Whether operations with options go on without a lost member (pcclLossPolicyRepair).
    virtual bool repairs() const { return false; }
    virtual Outcome connect() = 0;
    virtual Outcome are_peers_pending(bool &pending) = 0;
    virtual Outcome update_topology() = 0;
    virtual Outcome optimize_topology() = 0;
    virtual Outcome synchronize(pcclSharedState_t &state, pcclSharedStateSyncStrategy_t strategy, pcclSharedStateSyncInfo_t &info) = 0;
    virtual Outcome shard(std::size_t count, pcclShard_t &shard) = 0;
    virtual Outcome launch(const Reduce &reduce) = 0;
    virtual Outcome await(std::uint64_t tag, ReduceReport &report) = 0;
    virtual void abort() = 0;
    /// Of the same communicator, and for as long as this lives.
    virtual Exchange *exchange() = 0;
    /// By which its calls take time.
    virtual Clock &clock() { return machine_clock(); }
    /// From which calls are made while the trainer's thread does something else.
    virtual std::unique_ptr<Worker> worker() { return make_thread(); }
};

/// Those of a communicator, which outlives them. `options` may be NULL; copied.
std::unique_ptr<Collectives> collectives_of(pcclComm_t *comm, const pcclReduceOptions_t *options);

}  // namespace pccl::train
