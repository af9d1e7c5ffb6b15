// Socket addresses as values, and their spelling: "host:port", "1.2.3.4:5", "[::1]:5".
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include <pccl/address.h>

#include "base/result.h"

namespace pccl {

/// An IPv4 address is held as the first four octets.
struct IpAddress {
    bool v6 = false;
    std::array<std::uint8_t, 16> octets{};
    friend auto operator<=>(const IpAddress &, const IpAddress &) = default;

    bool unspecified() const { return octets == std::array<std::uint8_t, 16>{}; }
};

struct SocketAddress {
    IpAddress ip;
    std::uint16_t port = 0;
    friend auto operator<=>(const SocketAddress &, const SocketAddress &) = default;
};

/// A host (name or address, brackets taken off) and a port; port 0 where the text has none.
struct HostPort {
    std::string host;
    std::uint16_t port = 0;
};

/// Splits "host:port", "host", ":port", "[v6]:port", "v6". Error: pcclInvalidArgument with the text quoted.
Result<HostPort> parse_host_port(std::string_view text);

/// A literal address, no name look-up. nullopt-like: an Error if `text` is none. A v4-mapped v6 address becomes the v4 address.
Result<IpAddress> parse_ip(std::string_view text);

std::string to_string(const IpAddress &ip);
std::string to_string(const SocketAddress &address);

SocketAddress from_c(const ccoip_socket_address_t &address);
ccoip_socket_address_t to_c(const SocketAddress &address);

}  // namespace pccl
