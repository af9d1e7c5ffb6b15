#include "peer/pacer.h"

#include <algorithm>

namespace pccl::peer {

namespace {

constexpr Duration kMinWindow = std::chrono::milliseconds(50);
constexpr double kMuch = 1.25;    ///< growth that says that there is more to be had
constexpr int kFlat = 3;          ///< windows without it that say there is not
constexpr int kCycle = 8;         ///< windows from one probe for more to the next
constexpr double kProbe = 1.25;   ///< the one that probes
constexpr double kDrain = 0.85;   ///< the one after it, in which the queue empties
constexpr double kCruise = 1.0;
constexpr int kPeriod = 128;      ///< windows after which a best one begins to be forgotten: paths change

}  // namespace

Pacer::Pacer(Duration round_trip) : window_(std::max(round_trip, kMinWindow)) {}

bool Pacer::observe(Time now, std::uint64_t acknowledged_bytes, bool backlogged) {
    whole_ = whole_ && backlogged;
    const Duration passed = now - begin_;
    if (backlogged && passed < window_) return false;
    const bool counts = whole_ && passed < 4 * window_ && acknowledged_bytes > at_begin_;
    if (counts) end_window(static_cast<double>(acknowledged_bytes - at_begin_) * 1e6 / static_cast<double>(passed.count()));
    begin_ = now;
    at_begin_ = acknowledged_bytes;
    whole_ = backlogged;
    return counts;
}

/// Windows in which a connection had nothing to send say nothing about the path, and do not come here.
void Pacer::end_window(double bytes_per_s) {
    const double known = std::max(best_, before_);
    flat_ = bytes_per_s > known * kMuch ? 0 : flat_ + 1;
    known_ = known_ || flat_ >= kFlat;
    best_ = std::max(best_, bytes_per_s);
    if (++windows_ % kPeriod == 0) {
        before_ = best_;
        best_ = bytes_per_s;
    }
}

std::optional<std::uint64_t> Pacer::limit() const {
    if (!known_) return std::nullopt;
    const int phase = windows_ % kCycle;
    const double gain = phase == 0 ? kProbe : phase == 1 ? kDrain : kCruise;
    return static_cast<std::uint64_t>(std::max(best_, before_) * gain);
}

}  // namespace pccl::peer
