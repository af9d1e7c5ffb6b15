// The calls that gossip makes on a communicator in addition to collectives: messages between peers, and the graph of neighbours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <pccl/exchange.h>

#include "train/outcome.h"

namespace pccl::train {

/// Each function does the same as the call of that name in pccl/exchange.h. Thread-safe.
class Exchange {
public:
    virtual ~Exchange() = default;
    virtual Outcome set_graph(const pcclGraphOptions_t &graph) = 0;
    /// Gets this peer's neighbours. `epoch` changes whenever the neighbours change.
    virtual Outcome neighbours(std::vector<pcclPeerId_t> &out, std::uint64_t &epoch) = 0;
    virtual Outcome post(const pcclPeerId_t &to, std::uint64_t tag, const void *data, std::size_t bytes, std::uint32_t timeout_ms,
                         std::uint64_t &number) = 0;
    virtual Outcome await_post(std::uint64_t number, std::uint32_t timeout_ms) = 0;
    virtual Outcome receive(std::uint64_t tag, void *buffer, std::size_t capacity, std::uint32_t timeout_ms,
                            pcclMessageInfo_t &info) = 0;
    virtual Outcome limit_mailbox(std::uint64_t bytes, std::uint32_t messages) = 0;
};

/// The number of a peer in logs.
std::uint64_t number_of(const pcclPeerId_t &rank);

/// The exchange of a communicator, which must outlive it.
std::unique_ptr<Exchange> exchange_of(pcclComm_t *comm);

}  // namespace pccl::train
