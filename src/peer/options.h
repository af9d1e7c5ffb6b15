// What a communicator is configured with, read once at the edge.
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
    std::vector<HostPort> masters;         ///< where the master may be, tried in turn; at least one
    GroupId group;
    std::uint32_t lanes = 0;               ///< connections per link; 0: chosen from the measured round trip
    std::uint64_t island = 0;              ///< those with the same join and leave together; 0: on its own
    std::uint32_t island_peers = 0;        ///< how many they are
    std::string listen_host;               ///< "": all addresses, IPv4 and IPv6
    std::uint16_t port_first = 48149;
    std::uint16_t port_last = 49172;       ///< inclusive: the first and 1023 more
    HostPort advertise;                    ///< empty host: as the master sees this peer; port 0: the listening port
    std::string congestion_control;        ///< of data connections; "": chosen by the path
    Compression compression = Compression::automatic;
    Duration connect_timeout = std::chrono::seconds(5);
    Duration master_limit = std::chrono::minutes(10);  ///< how long a master that may come back is waited for
};

}  // namespace pccl::peer
