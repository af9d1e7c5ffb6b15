// What the kernel's TCP is asked to do for our connections. Linux; elsewhere, and where the system refuses, its own choice stays.
#pragma once

#include <cstdint>
#include <string>

#include <asio/ip/tcp.hpp>

#include "base/result.h"
#include "base/time.h"

namespace pccl::peer {

/// From here on a path is long: its sender is paced, and its buffers are as large as the system allows.
inline constexpr Duration kLongPath = std::chrono::milliseconds(1);

/// Error (pcclInvalidArgument): the system does not offer the congestion control of this name; says which ones it does.
Status check_congestion_control(const std::string &name);

/// For a socket that will listen or connect. `congestion_control`: what the user chose, or "".
///
/// Connections begin without pacing: a congestion control that paces (bbr, the default of some systems) leaves the pacing on for the
/// connection's life when another one takes over, and inside one machine pacing costs a third of the throughput.
void tune_before_connecting(asio::ip::tcp::socket::native_handle_type socket, const std::string &congestion_control);

/// For a connection that is there; returns its round trip as the handshake saw it, 0 if that is not known.
///
/// Over a long path it is given bbr where the system allows it (or `congestion_control`), and a send buffer beyond what the system would
/// give by itself: one connection carries no more than its buffer per round trip. What it has not sent yet stays small, so that another
/// connection may take it.
Duration tune_connected(asio::ip::tcp::socket::native_handle_type socket, const std::string &congestion_control);

/// For a connection of which both ends are on one machine: bounds its buffers. More would only push what is under way out of the cache.
void tune_inside_machine(asio::ip::tcp::socket::native_handle_type socket);

/// Whether its congestion control follows what the path delivers (bbr), so that losses alone do not slow it down.
bool follows_rate(asio::ip::tcp::socket::native_handle_type socket);

/// Bytes that were written and not acknowledged by the other end yet.
std::uint64_t unacknowledged_bytes(asio::ip::tcp::socket::native_handle_type socket);

/// Sends no faster than that from now on.
void limit_rate(asio::ip::tcp::socket::native_handle_type socket, std::uint64_t bytes_per_s);

}  // namespace pccl::peer
