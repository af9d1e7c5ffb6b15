// A bottleneck: a rate with a drop-tail queue in front of it, random loss, and then a delay. Packets leave in the order of
// arrival. Time is an argument, in nanoseconds. This code reads no clock and does no I/O, and the same seed loses the same
// segments.
//
// There is no token bucket: the time at which the wire becomes free determines both the departure of a packet and the length of
// the queue.
#pragma once

#include "forwarder/packet.h"

#include <cstdint>
#include <deque>
#include <random>

namespace netlab {

using Nanoseconds = std::int64_t;
constexpr Nanoseconds kSecond = 1'000'000'000;

struct ShaperOptions {
    Nanoseconds delay = 0;
    double rate = 0;         // bits per second; 0: no limit
    double queue_bytes = 0;  // 0: the bytes that the rate carries in two delays, at least 256 KiB
    double loss = 0;         // probability for each segment
};

struct Counters {
    std::uint64_t packets = 0, segments = 0, bytes = 0;   // accepted
    std::uint64_t overflowed = 0, lost = 0, blocked = 0;  // segments dropped: queue full, by chance, on command
};

class Shaper {
public:
    explicit Shaper(std::uint64_t seed) : random_(seed) { draw_loss(); }

    void configure(const ShaperOptions &options);
    const ShaperOptions &options() const { return options_; }
    const Counters &counters() const { return counters_; }

    /// A packet arrives at the queue. It may be cut, and parts of it dropped.
    void offer(Nanoseconds now, Packet packet);
    void drop(const Packet &packet) { counters_.blocked += shape_of(packet).segments; }
    void clear() { waiting_.clear(); }

    bool empty() const { return waiting_.empty(); }
    /// When the next packet leaves; only if not empty.
    Nanoseconds next() const { return waiting_.front().at; }
    Packet take();

private:
    struct Waiting {
        Nanoseconds at;
        Packet packet;
    };

    ShaperOptions options_;
    Counters counters_;
    std::mt19937_64 random_;
    std::uint64_t until_loss_ = 0;  // segments that pass before one is lost
    Nanoseconds wire_free_ = 0;
    std::deque<Waiting> waiting_;

    void draw_loss();
    double queue_limit() const;
    void enqueue(Nanoseconds now, Packet packet, const Shape &shape);
};

}  // namespace netlab
