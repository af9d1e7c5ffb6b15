// The configuration of a communicator. It is read once, by the C interface.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/ids.h"
#include "base/time.h"
#include "peer/compression_gate.h"

namespace pccl::peer {

struct Options {
    std::vector<HostPort> masters;  ///< addresses of the master, tried in turn; at least one
    GroupId group;
    std::uint32_t lanes = 0;         ///< connections per link; 0: chosen from the measured round trip
    std::uint64_t island = 0;        ///< peers with the same number join and leave together; 0: this peer is on its own
    std::uint32_t island_peers = 0;  ///< number of peers in the island
    std::string listen_host;         ///< "": all addresses, IPv4 and IPv6
    std::uint16_t port_first = 48149;
    std::uint16_t port_last = 49172;  ///< inclusive: the first and 1023 more
    HostPort advertise;               ///< empty host: the address that the master sees; port 0: the listening port
    std::string congestion_control;   ///< of data connections; "": chosen by the round trip
    Compression compression = Compression::automatic;
    Duration connect_timeout = std::chrono::seconds(5);
    Duration master_limit = std::chrono::minutes(10);  ///< how long to wait for an absent master that may come back
};

}  // namespace pccl::peer
