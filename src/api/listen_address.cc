// See api/listen_address.h.
#include "api/listen_address.h"

#include <algorithm>

#include <pccl/ports.h>

namespace pccl::api {

Result<SocketAddress> parse_listen_address(const std::string &text, const std::function<bool()> &stop) {
    const bool bare_port = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    const auto split = parse_host_port(bare_port ? ':' + text : text);
    if (!split) return split.error();
    SocketAddress address;
    address.port = split->port;
    // The text is only a host, without a port.
    if (text == split->host || text == '[' + split->host + ']') address.port = CCOIP_PROTOCOL_PORT_MASTER;
    if (split->host.empty()) return address;
    const auto ip = resolve(split->host, kResolveLimit, stop);
    if (!ip) return ip.error();
    address.ip = *ip;
    return address;
}

}  // namespace pccl::api
