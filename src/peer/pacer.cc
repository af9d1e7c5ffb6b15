#include "peer/pacer.h"

#include <algorithm>

namespace pccl::peer {

namespace {

constexpr Duration kMinWindow = std::chrono::milliseconds(50);
constexpr double kMuch = 1.25;    ///< growth that says that there is more to be had
constexpr int kFlat = 3;          ///< windows without it that say there is not
constexpr int kCycle = 16;        ///< windows from one probe for more to the next
constexpr int kProbeWindows = 2;  ///< that probe: so many show in a median of three
constexpr double kProbe = 1.25;
constexpr double kDrain = 0.8;    ///< for as many after them, in which the queue empties
constexpr int kPeriod = 128;      ///< windows after which a best one begins to be forgotten: paths change

}  // namespace

Pacer::Pacer(Duration round_trip) : window_(std::max(round_trip, kMinWindow)) {}

bool Pacer::observe(Time now, std::uint64_t delivered_bytes, bool backlogged) {
    whole_ = whole_ && backlogged;
    const Duration passed = now - begin_;
    if (backlogged && passed < window_) return false;
    const bool counts = whole_ && passed < 4 * window_ && delivered_bytes > at_begin_;
    if (counts) end_window(static_cast<double>(delivered_bytes - at_begin_) * 1e6 / static_cast<double>(passed.count()));
    begin_ = now;
    at_begin_ = delivered_bytes;
    whole_ = backlogged;
    return counts;
}

/// Windows in which a connection had nothing to send say nothing about the path, and do not come here. Nor does one alone: answers that
/// were held up come all at once, and look like a path of many times the rate.
void Pacer::end_window(double bytes_per_s) {
    last_[static_cast<std::size_t>(windows_) % last_.size()] = bytes_per_s;
    auto sorted = last_;
    std::ranges::sort(sorted);
    const double usual = known_ ? sorted[sorted.size() / 2] : bytes_per_s;
    const double known = std::max(best_, before_);
    flat_ = usual > known * kMuch ? 0 : flat_ + 1;
    best_ = std::max(best_, usual);
    known_ = known_ || flat_ >= kFlat;
    if (++windows_ % kPeriod == 0) {
        before_ = best_;
        best_ = usual;
    }
}

std::optional<std::uint64_t> Pacer::limit() const {
    if (!known_) return std::nullopt;
    const int phase = windows_ % kCycle;
    const double gain = phase < kProbeWindows ? kProbe : phase < 2 * kProbeWindows ? kDrain : 1.0;
    return static_cast<std::uint64_t>(std::max(best_, before_) * gain);
}

}  // namespace pccl::peer
