// The wide area: every directed pair of hosts has a Shaper, and single flows can have another one in front of it. Hosts are
// numbered from 0 to n - 1. Reads no clock.
#pragma once

#include "forwarder/shaper.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <queue>
#include <vector>

namespace netlab {

/// One direction of one pair.
class Link {
public:
    explicit Link(std::uint64_t seed) : wire(seed) {}

    /// A separate bottleneck for packets with a port, in front of the shared wire.
    struct Flow {
        std::uint16_t port;
        Shaper shaper;
    };

    Shaper wire;
    std::list<Flow> flows;
    bool blocked = false;
};

class Network {
public:
    using Deliver = std::function<void(int host, const Packet &packet)>;

    Network(int hosts, std::uint64_t seed);

    int hosts() const { return hosts_; }
    Link &link(int from, int to) { return links_[static_cast<std::size_t>(from * hosts_ + to)]; }
    bool removed(int host) const { return removed_[static_cast<std::size_t>(host)]; }

    /// Drops the packets that the host sends from now on, and those in flight to it.
    void remove(int host);
    /// Drops the packets in flight, and all packets until unblocked.
    void block(int from, int to, bool blocked);

    /// Accepts a packet from a host.
    void send(Nanoseconds now, int from, Packet packet);
    /// Delivers the packets that are due.
    void advance(Nanoseconds now, const Deliver &deliver);
    /// When the next packet is due, or -1 if none is in flight.
    Nanoseconds next() const { return due_.empty() ? -1 : due_.top().at; }

    std::uint64_t unroutable() const { return unroutable_; }

private:
    struct Due {
        Nanoseconds at;
        std::uint64_t order;  // equal times in the order of their announcement
        std::size_t link;
        bool operator>(const Due &other) const { return at != other.at ? at > other.at : order > other.order; }
    };

    int hosts_;
    std::deque<Link> links_;  // they do not move
    std::vector<bool> removed_;
    std::vector<Nanoseconds> announced_;  // per link: the earliest entry it has in `due_`, -1 if none
    std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
    std::uint64_t order_ = 0;
    std::uint64_t unroutable_ = 0;

    void announce(std::size_t index);
};

}  // namespace netlab
