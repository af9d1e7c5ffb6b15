// Converts between PCCL's and Asio's addresses.
#pragma once

#include <algorithm>

#include <asio/ip/tcp.hpp>

#include "base/address.h"

namespace pccl::peer {

inline asio::ip::tcp::endpoint to_endpoint(const SocketAddress &address) {
    if (address.ip.v6) {
        asio::ip::address_v6::bytes_type bytes;
        std::ranges::copy(address.ip.octets, bytes.begin());
        return {asio::ip::address_v6(bytes, address.ip.zone), address.port};
    }
    asio::ip::address_v4::bytes_type bytes;
    std::copy_n(address.ip.octets.begin(), 4, bytes.begin());
    return {asio::ip::address_v4(bytes), address.port};
}

/// Without the zone, which is valid on this host only.
inline IpAddress to_ip(const asio::ip::address &address) {
    IpAddress ip;
    if (address.is_v6() && !address.to_v6().is_v4_mapped()) {
        ip.v6 = true;
        std::ranges::copy(address.to_v6().to_bytes(), ip.octets.begin());
        return ip;
    }
    const auto v4 = address.is_v4() ? address.to_v4() : asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
    std::ranges::copy(v4.to_bytes(), ip.octets.begin());
    return ip;
}

}  // namespace pccl::peer
