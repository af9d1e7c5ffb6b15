// Creates communicators. Checks pcclCommConfig_t and converts it to peer::Options.
#include <pccl/pccl.h>
#include <pccl/ports.h>

#include <algorithm>
#include <vector>

#include "api/arguments.h"
#include "api/comm.h"
#include "api/state.h"
#include "api/structures.h"

namespace pccl::api {
namespace {

/// "host:port,host:port,...".
Result<std::vector<HostPort>> to_masters(const std::string &text) {
    std::vector<HostPort> masters;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find(',', begin), text.size());
        auto master = parse_host_port(text.substr(begin, end - begin));
        if (!master) return master.error();
        if (master->host.empty())
            return invalid("config->master_address is '" + text + "', which has an entry without a host. Write host:port");
        if (master->port == 0) master->port = CCOIP_PROTOCOL_PORT_MASTER;
        masters.push_back(std::move(*master));
        begin = end + 1;
    }
    return masters;
}

Result<peer::Options> to_options(const pcclCommConfig_t &config) {
    peer::Options options;
    if (!config.master_address) return invalid("config->master_address is NULL");
    auto masters = to_masters(config.master_address);
    if (!masters) return masters.error();
    options.masters = std::move(*masters);
    options.group = GroupId{config.peer_group};
    options.lanes = config.p2p_connection_pool_size;
    if (options.lanes > wire::kMaxLanes) {
        return invalid("p2p_connection_pool_size is " + std::to_string(options.lanes) + ". A link has at most " +
                       std::to_string(wire::kMaxLanes) + " lanes; 0 lets the library choose");
    }
    options.island = config.island;
    options.island_peers = config.island_peers;
    const bool wrong_size =
        config.island == 0 ? config.island_peers != 0 : config.island_peers == 0 || config.island_peers > wire::kMaxPeers;
    if (wrong_size) {
        return invalid("config->island_peers is " + std::to_string(config.island_peers) +
                       (config.island == 0 ? ", but config->island is 0. Set both or neither"
                                           : ". An island has 1 to " + std::to_string(wire::kMaxPeers) + " peers"));
    }
    if (config.listen_address) {
        if (const auto ip = parse_ip(config.listen_address); !ip) return invalid("config->listen_address: " + ip.error().what);
        options.listen_host = config.listen_address;
    }
    if (config.listen_port_first != 0) options.port_first = config.listen_port_first;
    const std::uint32_t last = config.listen_port_last != 0 ? config.listen_port_last : options.port_first + 1023u;
    options.port_last = static_cast<std::uint16_t>(std::min<std::uint32_t>(last, 65535));
    if (options.port_last < options.port_first) {
        return invalid("config->listen_port_first " + std::to_string(options.port_first) + " is above config->listen_port_last " +
                       std::to_string(options.port_last) + ". Set a range that is not empty");
    }
    if (config.advertise_address) {
        auto advertise = parse_host_port(config.advertise_address);
        if (!advertise) return advertise.error();
        options.advertise = *advertise;
    }
    if (config.congestion_control) options.congestion_control = config.congestion_control;
    if (!within(config.compression, peer::kCompressions))
        return invalid("config->compression is " + std::to_string(number(config.compression)) +
                       ", which is unknown. Use a value of pcclCompression_t");
    options.compression = static_cast<peer::Compression>(config.compression);
    if (config.connect_timeout_ms != 0) options.connect_timeout = std::chrono::milliseconds(config.connect_timeout_ms);
    if (config.master_limit_ms != 0) options.master_limit = std::chrono::milliseconds(config.master_limit_ms);
    return options;
}

}  // namespace
}  // namespace pccl::api

using namespace pccl;
using namespace pccl::api;

extern "C" {

pcclResult_t pcclCreateCommunicatorWithConfig(const pcclCommConfig_t *config, pcclComm_t **comm_out) {
    return guarded_initialized([&] {
        if (!config) return fail(invalid("config is NULL"));
        if (!comm_out) return fail(invalid("comm_out is NULL"));
        pcclCommConfig_t whole;
        if (const auto status = complete(*config, whole); !status) return fail(status.error());
        const auto options = to_options(whole);
        if (!options) return fail(options.error());
        *comm_out = new pcclComm_t(*options);
        return pcclSuccess;
    });
}

pcclResult_t pcclCreateCommunicator(const pcclCommCreateParams_t *params, pcclComm_t **comm_out) {
    return guarded_initialized([&] {
        if (!params) return fail(invalid("params is NULL"));
        const int protocol = number(params->master_address.inet.protocol);
        if (protocol != inetIPv4 && protocol != inetIPv6)
            return fail(invalid("params->master_address.inet.protocol is " + std::to_string(protocol) +
                                ", which is unknown. Use inetIPv4 or inetIPv6"));
        if (params->master_address.port == 0)
            return fail(invalid("params->master_address.port is 0. Set the port on which the master listens"));
        const std::string master = to_string(from_c(params->master_address));
        pcclCommConfig_t config;
        set_fresh(config);
        config.master_address = master.c_str();
        config.peer_group = params->peer_group;
        config.p2p_connection_pool_size = params->p2p_connection_pool_size;
        return pcclCreateCommunicatorWithConfig(&config, comm_out);
    });
}

}  // extern "C"
