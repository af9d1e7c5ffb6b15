// What gossip asks of a communicator beside its collectives: messages between peers, and who is whose neighbour.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <pccl/exchange.h>

#include "train/outcome.h"

namespace pccl::train {

/// Each function does what the call of that name in exchange.h does. Thread-safe.
class Exchange {
public:
    virtual ~Exchange() = default;
    virtual Outcome set_graph(const pcclGraphOptions_t &graph) = 0;
    /// `epoch` changes whenever they do.
    virtual Outcome neighbours(std::vector<pcclPeerId_t> &out, std::uint64_t &epoch) = 0;
    virtual Outcome post(const pcclPeerId_t &to, std::uint64_t tag, const void *data, std::size_t bytes,
                         std::uint32_t timeout_ms, std::uint64_t &number) = 0;
    virtual Outcome await_post(std::uint64_t number, std::uint32_t timeout_ms) = 0;
    virtual Outcome receive(std::uint64_t tag, void *buffer, std::size_t capacity, std::uint32_t timeout_ms,
                            pcclMessageInfo_t &info) = 0;
    virtual Outcome limit_mailbox(std::uint64_t bytes, std::uint32_t messages) = 0;
};

/// The number by which logs name a peer.
std::uint64_t number_of(const pcclPeerId_t &rank);

/// That of a communicator, which outlives it.
std::unique_ptr<Exchange> exchange_of(pcclComm_t *comm);

}  // namespace pccl::train
