#include "forwarder/network.h"

#include <utility>

namespace netlab {

Network::Network(int hosts, std::uint64_t seed)
    : hosts_(hosts), removed_(static_cast<std::size_t>(hosts), false),
      announced_(static_cast<std::size_t>(hosts) * static_cast<std::size_t>(hosts), -1) {
    for (std::size_t i = 0; i < announced_.size(); ++i)
        links_.emplace_back(seed * 0x9E3779B97F4A7C15U + i);
}

void Network::remove(int host) {
    removed_[static_cast<std::size_t>(host)] = true;
    for (int other = 0; other < hosts_; ++other) {
        block(host, other, true);
        block(other, host, true);
    }
}

void Network::block(int from, int to, bool blocked) {
    Link &link = this->link(from, to);
    link.blocked = blocked;
    if (!blocked) return;
    link.wire.clear();
    for (Link::Flow &flow : link.flows)
        flow.shaper.clear();
}

void Network::send(Nanoseconds now, int from, Packet packet) {
    const int to = is_sound(packet) ? destination_of(packet) - 1 : -1;
    if (to < 0 || to >= hosts_ || to == from) {
        ++unroutable_;
        return;
    }
    Link &link = this->link(from, to);
    if (link.blocked) return link.wire.drop(packet);
    Shaper *first = &link.wire;
    for (Link::Flow &flow : link.flows) {
        if (has_port(packet, flow.port)) first = &flow.shaper;
    }
    first->offer(now, std::move(packet));
    announce(static_cast<std::size_t>(from * hosts_ + to));
}

/// A link has one entry per earliest time. An entry that is too early does no harm.
void Network::announce(std::size_t index) {
    Nanoseconds earliest = links_[index].wire.empty() ? -1 : links_[index].wire.next();
    for (const Link::Flow &flow : links_[index].flows) {
        if (!flow.shaper.empty() && (earliest < 0 || flow.shaper.next() < earliest)) earliest = flow.shaper.next();
    }
    if (earliest < 0 || (announced_[index] >= 0 && announced_[index] <= earliest)) return;
    announced_[index] = earliest;
    due_.push({earliest, order_++, index});
}

void Network::advance(Nanoseconds now, const Deliver &deliver) {
    while (!due_.empty() && due_.top().at <= now) {
        const Due due = due_.top();
        due_.pop();
        if (announced_[due.link] == due.at) announced_[due.link] = -1;
        Link &link = links_[due.link];
        for (Link::Flow &flow : link.flows) {
            while (!flow.shaper.empty() && flow.shaper.next() <= now) {
                const Nanoseconds at = flow.shaper.next();
                link.wire.offer(at, flow.shaper.take());
            }
        }
        if (!link.wire.empty() && link.wire.next() <= now) deliver(static_cast<int>(due.link) % hosts_, link.wire.take());
        announce(due.link);
    }
}

}  // namespace netlab
