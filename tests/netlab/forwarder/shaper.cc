#include "forwarder/shaper.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace netlab {

namespace {

constexpr double kLeastQueue = 256 * 1024;
/// The largest number of bytes that are delivered at once. A wire delivers a large packet over time.
constexpr Nanoseconds kLongestBurst = kSecond / 2000;

}  // namespace

void Shaper::configure(const ShaperOptions &options) {
    const bool new_loss = options.loss != options_.loss;
    options_ = options;
    if (options.rate <= 0) wire_free_ = 0;
    if (new_loss) draw_loss();
}

/// A draw from the geometric distribution, equivalent to one draw per segment.
void Shaper::draw_loss() {
    if (options_.loss <= 0)
        until_loss_ = std::numeric_limits<std::uint64_t>::max();
    else if (options_.loss >= 1)
        until_loss_ = 0;
    else
        until_loss_ = std::geometric_distribution<std::uint64_t>(options_.loss)(random_);
}

double Shaper::queue_limit() const {
    if (options_.queue_bytes > 0) return options_.queue_bytes;
    return std::max(kLeastQueue, options_.rate / 8 * 2 * static_cast<double>(options_.delay) / static_cast<double>(kSecond));
}

void Shaper::offer(Nanoseconds now, Packet packet) {
    while (true) {
        Shape shape = shape_of(packet);
        if (until_loss_ >= shape.segments) {
            if (options_.loss > 0) until_loss_ -= shape.segments;
            return enqueue(now, std::move(packet), shape);
        }
        if (until_loss_ > 0) {
            Packet front = split(packet, static_cast<std::uint32_t>(until_loss_));
            const Shape front_shape = shape_of(front);
            enqueue(now, std::move(front), front_shape);
        }
        ++counters_.lost;
        const bool last = until_loss_ + 1 == shape.segments;
        draw_loss();
        if (last) return;
        static_cast<void>(split(packet, 1));
    }
}

void Shaper::enqueue(Nanoseconds now, Packet packet, const Shape &whole) {
    Shape shape = whole;
    if (options_.rate <= 0) {
        counters_.packets += 1;
        counters_.segments += shape.segments;
        counters_.bytes += shape.wire_bytes;
        waiting_.push_back({now + options_.delay, std::move(packet)});
        return;
    }
    const double ns_per_byte = 8 * static_cast<double>(kSecond) / options_.rate;
    wire_free_ = std::max(wire_free_, now);
    while (true) {
        // The segments that fit into the queue and pass within a burst.
        const double room = queue_limit() - static_cast<double>(wire_free_ - now) / ns_per_byte;
        if (room < shape.wire_bytes_of(1) && wire_free_ > now) {
            counters_.overflowed += shape.segments;
            return;
        }
        const double burst = std::min(room, static_cast<double>(kLongestBurst) / ns_per_byte);
        std::uint32_t count = shape.segments;
        if (burst < shape.wire_bytes && count > 1)
            count = std::clamp(static_cast<std::uint32_t>(std::max(0.0, burst) / shape.wire_bytes_of(1)), 1U, count - 1);
        const bool all = count == shape.segments;
        const std::uint32_t bytes = shape.wire_bytes_of(count);
        wire_free_ += std::llround(bytes * ns_per_byte);
        counters_.packets += 1;
        counters_.segments += count;
        counters_.bytes += bytes;
        Packet front = all ? std::move(packet) : split(packet, count);
        waiting_.push_back({wire_free_ + options_.delay, std::move(front)});
        if (all) return;
        shape = shape_of(packet);
    }
}

Packet Shaper::take() {
    Packet packet = std::move(waiting_.front().packet);
    waiting_.pop_front();
    return packet;
}

}  // namespace netlab
