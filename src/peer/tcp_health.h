// What the kernel knows of a connection's health: whether the other end answers, and what holds its sender up. Linux; elsewhere nothing
// is known.
#pragma once

#include <cstdint>
#include <optional>

#include "base/time.h"

namespace pccl::peer {

struct TcpHealth {
    Duration since_ack{};                ///< since the other end last acknowledged anything, also what it had acknowledged before
    bool awaits_ack = false;             ///< data, or a question whether the other's window is open again, are out and not answered
    Duration round_trip{};
    std::uint32_t retransmissions = 0;   ///< of one stretch of data without an answer: those so far
    std::uint64_t retransmitted = 0;     ///< segments since the connection was made
    Duration busy{};                     ///< with data to send, since it was made
    Duration receiver_limited{};         ///< of busy: the other end's window was full, it does not read
    Duration buffer_limited{};           ///< of busy: the send buffer here was full
    std::uint64_t bytes_per_s = 0;       ///< as last delivered while there was enough to send
    /// Bytes that the other end has, in order or not. (Where one was lost those behind it are acknowledged in one piece later: a rate
    /// measured by acknowledged bytes alone would be many times the path's for that moment.)
    std::uint64_t delivered = 0;
    std::uint64_t resent = 0;            ///< bytes that were sent again
};

std::optional<TcpHealth> tcp_health(int socket);

/// The kernel itself breaks the connection when the other end takes nothing for so long.
void give_up_after(int socket, Duration limit);

}  // namespace pccl::peer
