// Socket addresses as values, and their text form: "host:port", "1.2.3.4:5", "[::1]:5", "[fe80::1%eth0]:5".
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include <pccl/address.h>

#include "base/result.h"

namespace pccl {

/// An IPv4 address is stored in the first four bytes.
struct IpAddress {
    bool v6 = false;
    std::array<std::uint8_t, 16> octets{};
    std::uint32_t zone =
        0;  ///< the interface of this host that an IPv6 address belongs to ("%eth0"); 0: none. Never sent to others
    friend auto operator<=>(const IpAddress &, const IpAddress &) = default;

    bool unspecified() const { return octets == std::array<std::uint8_t, 16>{}; }
    /// fe80::/10: valid only with a zone.
    bool link_local() const { return v6 && octets[0] == 0xfe && (octets[1] & 0xc0) == 0x80; }
};

struct SocketAddress {
    IpAddress ip;
    std::uint16_t port = 0;
    friend auto operator<=>(const SocketAddress &, const SocketAddress &) = default;
};

/// A host (name or address, without brackets) and a port. The port is 0 if the text has none.
struct HostPort {
    std::string host;
    std::uint16_t port = 0;
};

/// Splits "host:port", "host", ":port", "[v6]:port", "v6"; "v6" may end in a zone, which stays part of the host. Error:
/// pcclInvalidArgument with the text quoted.
Result<HostPort> parse_host_port(std::string_view text);

/// Parses a literal address and looks up no name. Error: pcclInvalidArgument if `text` is not an address, or its zone (a name or
/// a number) is not an interface of this host. A v4-mapped v6 address becomes the v4 address.
Result<IpAddress> parse_ip(std::string_view text);

std::string to_string(const IpAddress &ip);
std::string to_string(const SocketAddress &address);

SocketAddress from_c(const ccoip_socket_address_t &address);
ccoip_socket_address_t to_c(const SocketAddress &address);

}  // namespace pccl
