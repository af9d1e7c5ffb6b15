// See train/collectives.h.
#include "train/collectives.h"

#include <cstring>

namespace pccl::train {

Outcome outcome_of(pcclResult_t code, const char *call) {
    if (code == pcclSuccess) return {};
    const std::string words = pcclGetLastError();
    return {code, std::string(call) + ": " + (words.empty() ? pcclGetErrorString(code) : words)};
}

namespace {

class CommunicatorCollectives final : public Collectives {
public:
    CommunicatorCollectives(pcclComm_t *comm, const pcclReduceOptions_t *options) : comm_(comm), exchange_(exchange_of(comm)) {
        pcclReduceOptionsInit(&options_);
        if (options) std::memcpy(&options_, options, std::min(options->struct_size, sizeof options_));
        options_.struct_size = sizeof options_;
    }

    bool connected() override {
        int world = 0;
        return pcclGetAttribute(comm_, PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE, &world) == pcclSuccess;
    }
    std::uint32_t world() override {
        int world = 0;
        return pcclGetAttribute(comm_, PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE, &world) == pcclSuccess
                   ? static_cast<std::uint32_t>(world)
                   : 0;
    }
    std::uint64_t self() override {
        pcclPeerId_t rank;
        return pcclGetPeerId(comm_, &rank) == pcclSuccess ? number_of(rank) : 0;
    }
    bool repairs() const override { return options_.on_peer_loss == pcclLossPolicyRepair; }
    Outcome connect() override { return outcome_of(pcclConnect(comm_), "pcclConnect"); }
    Outcome are_peers_pending(bool &pending) override {
        return outcome_of(pcclArePeersPending(comm_, &pending), "pcclArePeersPending");
    }
    Outcome update_topology() override { return outcome_of(pcclUpdateTopology(comm_), "pcclUpdateTopology"); }
    Outcome optimize_topology() override {
        auto outcome = outcome_of(pcclOptimizeTopology(comm_), "pcclOptimizeTopology");
        int world = 0;
        const bool alone = outcome.code == pcclInvalidUsage &&
                           pcclGetAttribute(comm_, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &world) == pcclSuccess && world == 1;
        if (alone) outcome.code = pcclTooFewPeers;
        return outcome;
    }

    Outcome synchronize(pcclSharedState_t &state, pcclSharedStateSyncStrategy_t strategy,
                        pcclSharedStateSyncInfo_t &info) override {
        return outcome_of(pcclSynchronizeSharedState(comm_, &state, strategy, &info), "pcclSynchronizeSharedState");
    }

    Outcome shard(std::size_t count, pcclShard_t &out) override {
        return outcome_of(pcclGetShard(comm_, count, &out), "pcclGetShard");
    }

    Outcome launch(const Reduce &r) override {
        const auto *options = r.with_options ? &options_ : nullptr;
        pcclAsyncReduceOp_t handle;  // holds the communicator and the tag only
        switch (r.kind) {
        case Reduce::Kind::reduce_scatter:
            return outcome_of(pcclReduceScatterAsync(r.send, r.recv, &r.what, r.shard, options, comm_, &handle),
                              "pcclReduceScatterAsync");
        case Reduce::Kind::all_gather:
            return outcome_of(pcclAllGatherAsync(r.send, r.recv, &r.what, r.shard, options, comm_, &handle),
                              "pcclAllGatherAsync");
        case Reduce::Kind::all_reduce: break;
        }
        return outcome_of(pcclAllReduceAsyncWithOptions(r.send, r.recv, &r.what, options, comm_, &handle), "pcclAllReduceAsync");
    }

    Outcome await(std::uint64_t tag, ReduceReport &out) override {
        const pcclAsyncReduceOp_t handle{comm_, tag};
        pcclReduceReport_t report;
        pcclReduceReportInit(&report);
        const auto outcome = outcome_of(pcclAwaitAsyncReduceWithReport(&handle, &report), "pcclAwaitAsyncReduce");
        out = {report.world_size, report.tx_bytes, report.rx_bytes};
        return outcome;
    }

    void abort() override { static_cast<void>(pcclAbort(comm_)); }
    Exchange *exchange() override { return exchange_.get(); }

private:
    pcclComm_t *comm_;
    std::unique_ptr<Exchange> exchange_;
    pcclReduceOptions_t options_{};
};

}  // namespace

std::unique_ptr<Collectives> collectives_of(pcclComm_t *comm, const pcclReduceOptions_t *options) {
    return std::make_unique<CommunicatorCollectives>(comm, options);
}

}  // namespace pccl::train
