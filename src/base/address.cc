// Parses and formats socket addresses. Does not look up names: inet_pton and inet_ntop only convert text. Zones are looked up
// among the interfaces of this host.
#include "base/address.h"

#include <algorithm>
#include <optional>

#include <arpa/inet.h>
#include <net/if.h>

namespace pccl {
namespace {

constexpr std::size_t kMaxHost = 255;
constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/// Returns the text in quotes for an error message, shortened and with unprintable characters replaced.
std::string quoted(std::string_view text) {
    constexpr std::size_t kMaxShown = 80;
    std::string out = "\"";
    for (char c : text.substr(0, kMaxShown))
        out += c >= 0x20 && c != 0x7f && c != '"' ? c : '?';
    return out + (text.size() > kMaxShown ? "...\"" : "\"");
}

Error invalid(std::string_view text, const char *why) { return {pcclInvalidArgument, quoted(text) + ": " + why}; }

std::optional<std::uint16_t> parse_port(std::string_view text) {
    if (text.empty() || text.size() > 5) return std::nullopt;
    std::uint32_t port = 0;
    for (char c : text) {
        if (c < '0' || c > '9') return std::nullopt;
        port = port * 10 + static_cast<std::uint32_t>(c - '0');
    }
    if (port > 65535) return std::nullopt;
    return static_cast<std::uint16_t>(port);
}

/// Accepts names with underscores and in other alphabets, because they exist. Rejects characters that belong to another syntax.
bool plausible_host(std::string_view host) {
    const auto bad = [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte <= 0x20 || byte == 0x7f || std::string_view("[]/@?#%\\,;\"'").find(c) != std::string_view::npos;
    };
    return host.size() <= kMaxHost && std::none_of(host.begin(), host.end(), bad);
}

/// Converts a v4-mapped IPv6 address to its IPv4 address, so that equal addresses compare equal.
IpAddress from_v6(const std::array<std::uint8_t, 16> &octets) {
    IpAddress ip;
    if (std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), octets.begin())) {
        std::copy(octets.begin() + 12, octets.end(), ip.octets.begin());
    } else {
        ip.v6 = true;
        ip.octets = octets;
    }
    return ip;
}

std::optional<IpAddress> parse_octets(std::string_view text) {
    const std::string copy(text);
    if (copy.find('\0') != std::string::npos) return std::nullopt;  // inet_pton would stop there
    std::array<std::uint8_t, 16> octets{};
    if (inet_pton(AF_INET, copy.c_str(), octets.data()) == 1) return IpAddress{false, octets, 0};
    octets = {};
    if (inet_pton(AF_INET6, copy.c_str(), octets.data()) == 1) return from_v6(octets);
    return std::nullopt;
}

/// Returns the part of `text` before the zone.
std::string_view without_zone(std::string_view text) { return text.substr(0, text.find('%')); }

/// Returns whether `text` is an IPv6 address, with any zone.
bool is_v6(std::string_view text) { return text.find(':') != std::string_view::npos && parse_octets(without_zone(text)); }

/// Returns the interface with that name, or else that number; 0 if there is none.
std::uint32_t parse_zone(std::string_view text) {
    const std::string copy(text);
    // The system ignores a colon and the text after it.
    if (copy.empty() || copy.size() >= IF_NAMESIZE || copy.find_first_of(std::string_view("\0:", 2)) != std::string::npos)
        return 0;
    if (const auto index = if_nametoindex(copy.c_str()); index != 0) return index;
    std::uint64_t number = 0;
    for (char c : copy) {
        if (c < '0' || c > '9') return 0;
        number = number * 10 + static_cast<std::uint64_t>(c - '0');
    }
    char name[IF_NAMESIZE];
    const bool exists = number <= UINT32_MAX && if_indextoname(static_cast<unsigned>(number), name);
    return exists ? static_cast<std::uint32_t>(number) : 0;
}

std::string zone_text(std::uint32_t zone) {
    char name[IF_NAMESIZE];
    return '%' + (if_indextoname(zone, name) ? std::string(name) : std::to_string(zone));
}

}  // namespace

Result<HostPort> parse_host_port(std::string_view text) {
    if (text.empty()) return invalid(text, "the address is empty. Write host:port");
    std::string_view host = text, port;
    bool has_port = false;
    if (text.front() == '[') {
        const auto end = text.find(']');
        if (end == std::string_view::npos || !is_v6(text.substr(1, end - 1)))
            return invalid(text, "the text in brackets is not an IPv6 address. Write it as in [::1]:48148");
        host = text.substr(1, end - 1);
        if (const auto ip = parse_ip(host); !ip) return ip.error();
        std::string_view rest = text.substr(end + 1);
        has_port = !rest.empty();
        if (has_port && rest.front() != ':')
            return invalid(text, "the closing bracket is followed by other text than :port. Write it as in [::1]:48148");
        if (has_port) port = rest.substr(1);
    } else if (is_v6(text)) {
        if (const auto ip = parse_ip(text); !ip) return ip.error();
    } else if (const auto colon = text.find(':'); colon != std::string_view::npos) {
        host = text.substr(0, colon);
        port = text.substr(colon + 1);
        has_port = true;
    }
    HostPort out{std::string(host), 0};
    if (has_port) {
        const auto number = parse_port(port);
        if (!number) return invalid(text, "the port is not a number from 0 to 65535");
        out.port = *number;
    }
    if (!is_v6(host) && !plausible_host(host)) return invalid(text, "the host is neither a name nor an address. Write host:port");
    return out;
}

Result<IpAddress> parse_ip(std::string_view text) {
    auto ip = parse_octets(without_zone(text));
    if (!ip) return invalid(text, "not an IPv4 or IPv6 address");
    if (const auto percent = text.find('%'); percent != std::string_view::npos) {
        if (!ip->v6) return invalid(text, "only an IPv6 address has a zone");
        ip->zone = parse_zone(text.substr(percent + 1));
        if (ip->zone == 0) {
            return Error{pcclInvalidArgument, quoted(text) + ": no network interface of this host is named " +
                                                  quoted(text.substr(percent + 1)) +
                                                  ". Write the name or the number of one after %, as in [fe80::1%eth0]:48148"};
        }
    }
    return *ip;
}

std::string to_string(const IpAddress &ip) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(ip.v6 ? AF_INET6 : AF_INET, ip.octets.data(), text.data(), text.size());
    return text.data() + (ip.zone != 0 ? zone_text(ip.zone) : "");
}

std::string to_string(const SocketAddress &address) {
    const std::string ip = to_string(address.ip);
    return (address.ip.v6 ? '[' + ip + ']' : ip) + ':' + std::to_string(address.port);
}

SocketAddress from_c(const ccoip_socket_address_t &address) {
    SocketAddress out;
    out.port = address.port;
    if (address.inet.protocol == inetIPv6) {
        std::array<std::uint8_t, 16> octets;
        std::copy_n(address.inet.ipv6.data, octets.size(), octets.begin());
        out.ip = from_v6(octets);
    } else {
        std::copy_n(address.inet.ipv4.data, 4, out.ip.octets.begin());
    }
    return out;
}

ccoip_socket_address_t to_c(const SocketAddress &address) {
    ccoip_socket_address_t out{};
    out.port = address.port;
    out.inet.protocol = address.ip.v6 ? inetIPv6 : inetIPv4;
    if (address.ip.v6)
        std::copy_n(address.ip.octets.begin(), 16, out.inet.ipv6.data);
    else
        std::copy_n(address.ip.octets.begin(), 4, out.inet.ipv4.data);
    return out;
}

}  // namespace pccl
