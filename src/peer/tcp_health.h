// The health of a connection as the kernel reports it: whether the other end answers, and what limits its sender. Linux only;
// elsewhere nothing is reported.
#pragma once

#include <cstdint>
#include <optional>

#include "base/time.h"

namespace pccl::peer {

struct TcpHealth {
    Duration since_ack{};     ///< since the last acknowledgement, including repeated ones
    bool awaits_ack = false;  ///< data or a window probe is unacknowledged
    Duration round_trip{};
    std::uint32_t retransmissions = 0;  ///< retransmissions of the oldest unacknowledged data
    std::uint64_t retransmitted = 0;    ///< segments since the connection was made
    Duration busy{};                    ///< time with data to send, since the connection was made
    Duration receiver_limited{};        ///< part of busy in which the receiver's window was full
    Duration buffer_limited{};          ///< part of busy in which the send buffer was full
    std::uint64_t bytes_per_s = 0;      ///< the last delivery rate measured while there was enough to send
    /// Bytes that the other end has received, in order or not. After a loss, the bytes behind the gap are acknowledged all at
    /// once: a rate computed from acknowledged bytes alone would then exceed the path's many times.
    std::uint64_t delivered = 0;
    std::uint64_t resent = 0;  ///< bytes retransmitted
};

std::optional<TcpHealth> tcp_health(int socket);

/// Sets the time without progress after which the kernel breaks the connection (TCP_USER_TIMEOUT).
void give_up_after(int socket, Duration limit);

}  // namespace pccl::peer
