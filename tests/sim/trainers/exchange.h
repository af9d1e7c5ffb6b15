// The exchange of a trainer's communicator on the stage.
#pragma once

#include <map>

#include "sim/trainers/stage.h"
#include "train/exchange.h"

namespace pccl::sim {

/// Posts and neighbours of the simulated run. A call may take effect after a delay, as the stage may stop threads.
class SimulatedExchange final : public train::Exchange {
public:
    explicit SimulatedExchange(Stage::Actor &actor) : stage_(actor.stage_), actor_(actor) {}

    train::Outcome set_graph(const pcclGraphOptions_t &graph) override;
    train::Outcome neighbours(std::vector<pcclPeerId_t> &out, std::uint64_t &epoch) override;
    train::Outcome post(const pcclPeerId_t &to, std::uint64_t tag, const void *data, std::size_t bytes, std::uint32_t timeout_ms,
                        std::uint64_t &number) override;
    train::Outcome await_post(std::uint64_t number, std::uint32_t timeout_ms) override;
    train::Outcome receive(std::uint64_t tag, void *buffer, std::size_t capacity, std::uint32_t timeout_ms,
                           pcclMessageInfo_t &info) override;
    train::Outcome limit_mailbox(std::uint64_t bytes, std::uint32_t messages) override;

private:
    template <class Over> void wait(std::uint32_t timeout_ms, Over over);
    bool connected() const { return !actor_.dead() && actor_.node_.peer->view() != ViewNumber{}; }

    Stage &stage_;
    Stage::Actor &actor_;
    std::map<std::uint64_t, Letter *> open_;  ///< by the sender's number
    std::uint64_t last_ = 0;
};

}  // namespace pccl::sim
