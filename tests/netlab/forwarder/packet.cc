#include "forwarder/packet.h"

#include <algorithm>
#include <cstring>
#include <netinet/in.h>

namespace netlab {

namespace {

/// As in the virtio specification; the kernel's header does not compile as C++.
struct VnetHeader {
    std::uint8_t flags;
    std::uint8_t gso_type;
    std::uint16_t header_bytes;
    std::uint16_t gso_size;
    std::uint16_t checksum_start;
    std::uint16_t checksum_offset;
};
static_assert(sizeof(VnetHeader) == kVnetHeader);
constexpr std::uint8_t kNeedsChecksum = 1;
constexpr std::uint8_t kGsoNone = 0, kGsoTcp4 = 1, kGsoEcn = 0x80;

constexpr std::size_t kLeastIp = 20, kLeastTcp = 20;
constexpr std::uint8_t kFin = 0x01, kPsh = 0x08, kCwr = 0x80;

std::uint16_t load16(const std::uint8_t *p) { return static_cast<std::uint16_t>(p[0] << 8 | p[1]); }
std::uint32_t load32(const std::uint8_t *p) { return static_cast<std::uint32_t>(load16(p)) << 16 | load16(p + 2); }
void store16(std::uint8_t *p, std::uint32_t v) {
    p[0] = static_cast<std::uint8_t>(v >> 8);
    p[1] = static_cast<std::uint8_t>(v);
}
void store32(std::uint8_t *p, std::uint32_t v) {
    store16(p, v >> 16);
    store16(p + 2, v & 0xffff);
}

std::size_t ip_header(const Packet &packet) { return static_cast<std::size_t>(packet.ip()[0] & 15) * 4; }

VnetHeader vnet_of(const Packet &packet) {
    VnetHeader header;
    std::memcpy(&header, packet.data.get(), sizeof header);
    return header;
}

std::uint32_t sum16(const std::uint8_t *p, std::size_t bytes) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes; i += 2)
        sum += load16(p + i);
    return sum;
}
std::uint32_t fold(std::uint32_t sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/// Updates lengths and checksums after the payload has changed. The TCP checksum is left to offload: its field holds that of the
/// pseudo-header, which has the length in it.
void mend(Packet &packet, std::size_t headers, std::uint16_t segment_payload) {
    std::uint8_t *const ip = packet.ip();
    const std::size_t ip_length = ip_header(packet);
    store16(ip + 2, static_cast<std::uint32_t>(packet.ip_bytes()));
    store16(ip + 10, 0);
    store16(ip + 10, ~fold(sum16(ip, ip_length)) & 0xffff);
    const auto tcp_bytes = static_cast<std::uint32_t>(packet.ip_bytes() - ip_length);
    store16(ip + ip_length + 16, fold(sum16(ip + 12, 8) + IPPROTO_TCP + tcp_bytes));
    VnetHeader vnet = vnet_of(packet);
    if (packet.ip_bytes() - headers <= segment_payload) {
        vnet.gso_type = kGsoNone;
        vnet.gso_size = 0;
    }
    std::memcpy(packet.data.get(), &vnet, sizeof vnet);
}

}  // namespace

bool is_sound(const Packet &packet) {
    if (packet.size < kVnetHeader + kLeastIp || packet.ip()[0] >> 4 != 4) return false;
    if (ip_header(packet) < kLeastIp || load16(packet.ip() + 2) != (packet.ip_bytes() & 0xffff)) return false;
    const VnetHeader vnet = vnet_of(packet);
    if (vnet.gso_type == kGsoNone) return ip_header(packet) <= packet.ip_bytes();
    // Only offload of TCP over IPv4 was requested; any other kind would be split wrongly.
    if ((vnet.gso_type & ~kGsoEcn) != kGsoTcp4 || vnet.gso_size == 0) return false;
    if (!(vnet.flags & kNeedsChecksum)) return false;
    if (packet.ip_bytes() < ip_header(packet) + kLeastTcp) return false;
    const std::size_t tcp_header = static_cast<std::size_t>(packet.ip()[ip_header(packet) + 12] >> 4) * 4;
    return tcp_header >= kLeastTcp && ip_header(packet) + tcp_header <= packet.ip_bytes();
}

Shape shape_of(const Packet &packet) {
    const VnetHeader vnet = vnet_of(packet);
    Shape shape;
    shape.wire_bytes = static_cast<std::uint32_t>(packet.ip_bytes());
    if (vnet.gso_type == kGsoNone) return shape;
    const std::size_t ip_length = ip_header(packet);
    shape.headers = static_cast<std::uint32_t>(ip_length + static_cast<std::size_t>(packet.ip()[ip_length + 12] >> 4) * 4);
    shape.segment_payload = vnet.gso_size;
    const auto payload = static_cast<std::uint32_t>(packet.ip_bytes()) - shape.headers;
    shape.segments = std::max(1U, (payload + shape.segment_payload - 1) / shape.segment_payload);
    shape.wire_bytes += (shape.segments - 1) * shape.headers;
    return shape;
}

Packet split(Packet &packet, std::uint32_t segments) {
    const Shape shape = shape_of(packet);
    const std::size_t cut = static_cast<std::size_t>(segments) * shape.segment_payload;
    const std::size_t headers = kVnetHeader + shape.headers;
    Packet front{std::make_unique_for_overwrite<std::uint8_t[]>(headers + cut), static_cast<std::uint32_t>(headers + cut)};
    std::memcpy(front.data.get(), packet.data.get(), headers + cut);
    std::memmove(packet.data.get() + headers, packet.data.get() + headers + cut, packet.size - headers - cut);
    packet.size -= static_cast<std::uint32_t>(cut);

    std::uint8_t *const front_tcp = front.ip() + ip_header(front);
    std::uint8_t *const rest_tcp = packet.ip() + ip_header(packet);
    store16(packet.ip() + 4, load16(packet.ip() + 4) + segments);  // each segment would have had its own identification
    store32(rest_tcp + 4, load32(rest_tcp + 4) + static_cast<std::uint32_t>(cut));
    front_tcp[13] &= static_cast<std::uint8_t>(~(kFin | kPsh));
    rest_tcp[13] &= static_cast<std::uint8_t>(~kCwr);
    mend(front, shape.headers, static_cast<std::uint16_t>(shape.segment_payload));
    mend(packet, shape.headers, static_cast<std::uint16_t>(shape.segment_payload));
    return front;
}

std::uint8_t destination_of(const Packet &packet) {
    const std::uint32_t address = load32(packet.ip() + 16);
    return address >> 8 == (10U << 16 | 77U << 8) ? static_cast<std::uint8_t>(address) : 0;
}

bool has_port(const Packet &packet, std::uint16_t port) {
    const std::uint8_t protocol = packet.ip()[9];
    const std::size_t header = ip_header(packet);
    const bool first_fragment = (load16(packet.ip() + 6) & 0x1fff) == 0;
    if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || !first_fragment || packet.ip_bytes() < header + 4) return false;
    return load16(packet.ip() + header) == port || load16(packet.ip() + header + 2) == port;
}

}  // namespace netlab
