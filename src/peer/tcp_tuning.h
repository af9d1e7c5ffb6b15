// Settings of the kernel's TCP for data connections. Linux only; elsewhere, or if the system refuses, the system's defaults
// apply.
#pragma once

#include <cstdint>
#include <string>

#include <asio/ip/tcp.hpp>

#include "base/result.h"
#include "base/time.h"

namespace pccl::peer {

/// Round trip from which a path is long: its sender is paced, and its buffers are as large as the system allows.
inline constexpr Duration kLongPath = std::chrono::milliseconds(1);

/// Error (pcclInvalidArgument): the system does not offer the congestion control of this name. The text lists those that it
/// offers.
Status check_congestion_control(const std::string &name);

/// For a socket that will listen or connect. `congestion_control`: the user's choice, or "".
///
/// Connections begin without pacing: a congestion control that paces (bbr, the default of some systems) leaves the pacing on for
/// the connection's life when another one takes over, and inside one machine pacing costs a third of the throughput.
void tune_before_connecting(asio::ip::tcp::socket::native_handle_type socket, const std::string &congestion_control);

/// For an established connection. Returns its round trip as the handshake measured it; 0 if unknown.
///
/// On a long path, sets bbr if the system allows it (or `congestion_control`), and the largest send buffer, because a connection
/// carries no more than its buffer per round trip. The unsent part of the buffer is kept small, so that other connections can
/// take those frames.
Duration tune_connected(asio::ip::tcp::socket::native_handle_type socket, const std::string &congestion_control);

/// For a connection with both ends on one machine: limits its buffers, so that bytes in flight stay in the cache.
void tune_inside_machine(asio::ip::tcp::socket::native_handle_type socket);

/// Whether the congestion control follows the delivery rate (bbr), so that losses alone do not slow it down.
bool follows_rate(asio::ip::tcp::socket::native_handle_type socket);

/// Bytes that were written and that the other end has not acknowledged yet.
std::uint64_t unacknowledged_bytes(asio::ip::tcp::socket::native_handle_type socket);

/// Limits the rate at which the connection sends.
void limit_rate(asio::ip::tcp::socket::native_handle_type socket, std::uint64_t bytes_per_s);

}  // namespace pccl::peer
