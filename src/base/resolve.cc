#include "base/resolve.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace pccl {
namespace {

struct Free {
    void operator()(addrinfo *list) const { freeaddrinfo(list); }
};

IpAddress to_ip(const addrinfo &found) {
    ccoip_socket_address_t address{};
    if (found.ai_family == AF_INET6) {
        address.inet.protocol = inetIPv6;
        const auto *octets = reinterpret_cast<const sockaddr_in6 *>(found.ai_addr)->sin6_addr.s6_addr;
        std::copy_n(octets, 16, address.inet.ipv6.data);
    } else {
        const auto *octets =
            reinterpret_cast<const std::uint8_t *>(&reinterpret_cast<const sockaddr_in *>(found.ai_addr)->sin_addr);
        std::copy_n(octets, 4, address.inet.ipv4.data);
    }
    return from_c(address).ip;
}

}  // namespace

Result<IpAddress> resolve(const std::string &host) {
    if (auto literal = parse_ip(host)) return *literal;
    addrinfo wanted{};
    wanted.ai_family = AF_UNSPEC;
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo *list = nullptr;
    if (const int error = getaddrinfo(host.c_str(), nullptr, &wanted, &list); error != 0) {
        const std::string why = error == EAI_SYSTEM ? std::system_category().message(errno) : std::string(gai_strerror(error));
        return Error{pcclInvalidArgument, "no address for the host name \"" + host + "\": " + why};
    }
    const std::unique_ptr<addrinfo, Free> owner(list);
    const addrinfo *best = nullptr;
    for (const addrinfo *found = list; found; found = found->ai_next) {
        if (found->ai_family == AF_INET) return to_ip(*found);
        if (found->ai_family == AF_INET6 && !best) best = found;
    }
    if (best) return to_ip(*best);
    return Error{pcclInvalidArgument, "no address for the host name \"" + host + "\""};
}

}  // namespace pccl
