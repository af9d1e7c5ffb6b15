// See base/interfaces.h.
#include "base/interfaces.h"

#include <cstring>
#include <memory>

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

namespace pccl {
namespace {

struct Free {
    void operator()(ifaddrs *list) const { ::freeifaddrs(list); }
};
using Interfaces = std::unique_ptr<ifaddrs, Free>;

Interfaces interfaces() {
    ifaddrs *list = nullptr;
    return Interfaces(::getifaddrs(&list) == 0 ? list : nullptr);
}

bool has(const ifaddrs &entry, const IpAddress &ip) {
    if (!entry.ifa_addr || entry.ifa_addr->sa_family != (ip.v6 ? AF_INET6 : AF_INET)) return false;
    if (ip.v6) {
        sockaddr_in6 v6;
        std::memcpy(&v6, entry.ifa_addr, sizeof v6);
        return std::memcmp(&v6.sin6_addr, ip.octets.data(), 16) == 0;
    }
    sockaddr_in v4;
    std::memcpy(&v4, entry.ifa_addr, sizeof v4);
    return std::memcmp(&v4.sin_addr, ip.octets.data(), 4) == 0;
}

}  // namespace

std::uint32_t interface_of(const IpAddress &ip) {
    const Interfaces all = interfaces();
    for (const ifaddrs *entry = all.get(); entry; entry = entry->ifa_next) {
        if (has(*entry, ip)) return ::if_nametoindex(entry->ifa_name);
    }
    return 0;
}

bool is_of_this_host(const IpAddress &ip) {
    if (!ip.v6 && ip.octets[0] == 127) return true;
    return interface_of(ip) != 0;
}

std::uint32_t zone_of_interface(std::uint32_t index) {
    const Interfaces all = interfaces();
    for (const ifaddrs *entry = all.get(); entry; entry = entry->ifa_next) {
        if ((entry->ifa_flags & IFF_LOOPBACK) != 0 && ::if_nametoindex(entry->ifa_name) == index) return 0;
    }
    return index;
}

}  // namespace pccl
