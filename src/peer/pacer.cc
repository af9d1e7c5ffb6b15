#include "peer/pacer.h"

#include <algorithm>
#include <utility>

namespace pccl::peer {

namespace {

constexpr Duration kMinWindow = std::chrono::milliseconds(50);
constexpr double kMuch = 1.25;    ///< growth that says that there is more to be had
constexpr int kFlat = 3;          ///< windows without it that say there is not
constexpr int kCycle = 32;        ///< windows from one probe for more to the next, where a queue stands
constexpr int kProbeWindows = 3;  ///< that probe: so many show in a median of five
constexpr double kProbe = 1.25;
constexpr double kDrain = 0.8;    ///< for as many after them, in which the queue empties
constexpr int kPeriod = 128;      ///< windows
/// A queue makes a round trip longer than the shortest, by more than they differ anyway.
constexpr double kLonger = 1.125;
constexpr Duration kJitter = std::chrono::milliseconds(2);
/// Of what is delivered, sent again: so much is lost where a queue overflows.
constexpr std::uint64_t kOverflowing = 16;

}  // namespace

Pacer::Pacer(Duration round_trip) : window_(std::max(round_trip, kMinWindow)) {}

bool Pacer::observe(Time now, const Sample &sample) {
    whole_ = whole_ && sample.backlogged;
    least_in_window_ = std::min(least_in_window_, sample.round_trip);
    const Duration passed = now - begin_;
    // Sums over connections can shrink: one may have ended, or the system say nothing of it.
    const std::uint64_t delivered = sample.delivered - std::min(sample.delivered, at_begin_);
    const std::uint64_t resent = sample.resent - std::min(sample.resent, resent_at_begin_);
    const bool overflows = delivered > 0 && resent > delivered / kOverflowing;
    if ((sample.backlogged || overflows) && passed < window_) return false;
    const bool counts = (whole_ || overflows) && passed >= window_ && passed < 4 * window_ && delivered > 0;
    if (counts) end_window(static_cast<double>(delivered) * 1e6 / static_cast<double>(passed.count()));
    begin_ = now;
    at_begin_ = sample.delivered;
    resent_at_begin_ = sample.resent;
    whole_ = sample.backlogged;
    least_in_window_ = sample.round_trip;
    return counts;
}

/// Windows in which a connection had nothing to send say nothing about the path, and do not come here. Nor does one alone: answers that
/// were held up come all at once, and look like a path of many times the rate.
void Pacer::end_window(double bytes_per_s) {
    last_[static_cast<std::size_t>(windows_) % last_.size()] = bytes_per_s;
    auto sorted = last_;
    std::ranges::sort(sorted);
    const double usual = known_ ? sorted[sorted.size() / 2] : bytes_per_s;
    flat_ = usual > std::max(period_.best, before_.best) * kMuch ? 0 : flat_ + 1;
    known_ = known_ || flat_ >= kFlat;
    period_.best = std::max(period_.best, usual);
    period_.least = std::min(period_.least, least_in_window_);
    queue_stands_ = queue_stands();
    if (++windows_ % kPeriod == 0) before_ = std::exchange(period_, {usual, least_in_window_});
}

bool Pacer::queue_stands() const {
    const auto least = static_cast<double>(std::min(period_.least, before_.least).count());
    return least == 0 || static_cast<double>((least_in_window_ - kJitter).count()) > least * kLonger;
}

std::optional<std::uint64_t> Pacer::limit() const {
    if (!known_) return std::nullopt;
    const int phase = windows_ % kCycle;
    const double gain = !queue_stands_ || phase < kProbeWindows ? kProbe : phase < 2 * kProbeWindows ? kDrain : 1;
    return static_cast<std::uint64_t>(std::max(period_.best, before_.best) * gain);
}

}  // namespace pccl::peer
