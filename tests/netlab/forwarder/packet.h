// A packet in the format of a TUN device with virtio-net headers: the header, then an IPv4 packet. With segmentation offload,
// one "packet" can contain up to 64 KiB of TCP, which are many segments on a wire. `split` cuts it at a segment boundary, so
// that rate, queue and loss apply to segments although whole packets are carried.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace netlab {

constexpr std::size_t kVnetHeader = 10;  // struct virtio_net_hdr
constexpr std::size_t kLargestPacket = kVnetHeader + 65536;

struct Packet {
    std::unique_ptr<std::uint8_t[]> data;
    std::uint32_t size = 0;  // includes the virtio-net header

    const std::uint8_t *ip() const { return data.get() + kVnetHeader; }
    std::uint8_t *ip() { return data.get() + kVnetHeader; }
    std::size_t ip_bytes() const { return size - kVnetHeader; }
};

/// A packet as segments on a wire.
struct Shape {
    std::uint32_t segments = 1;
    std::uint32_t headers = 0;          // bytes of IP and TCP header, in each segment
    std::uint32_t segment_payload = 0;  // bytes in each segment except the last
    std::uint32_t wire_bytes = 0;       // bytes of all segments, IP headers included

    /// Bytes on the wire of the first `count` segments.
    std::uint32_t wire_bytes_of(std::uint32_t count) const {
        return count >= segments ? wire_bytes : count * (headers + segment_payload);
    }
};

/// Whether it is a whole IPv4 packet with a valid header. All other functions here require one.
bool is_sound(const Packet &packet);
Shape shape_of(const Packet &packet);
/// Cuts a TCP packet of several segments after the first `segments`, 0 < segments < all. Returns the first part and leaves the
/// rest in the packet.
Packet split(Packet &packet, std::uint32_t segments);

/// The last byte of the addresses 10.77.0.x, or 0 for any other address.
std::uint8_t destination_of(const Packet &packet);
/// Whether it is a TCP or UDP packet with this port at either end.
bool has_port(const Packet &packet, std::uint16_t port);

}  // namespace netlab
