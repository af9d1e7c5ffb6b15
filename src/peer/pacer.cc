// See pacer.h.
#include "peer/pacer.h"

#include <algorithm>
#include <utility>

namespace pccl::peer {

namespace {

constexpr Duration kMinWindow = std::chrono::milliseconds(50);
constexpr double kGrowthThreshold = 1.25;  ///< growth of the rate by this factor shows that the path can carry more
constexpr int kFlatWindows = 3;            ///< after this many windows without such growth, the rate is known
constexpr int kCycle = 32;                 ///< windows from one probe to the next while the path has a queue
constexpr int kProbeWindows = 3;           ///< windows per probe: enough to change a median of five
constexpr double kProbeGain = 1.25;
constexpr double kDrainGain = 0.8;  ///< for as many windows after the probe, in which the queue empties
constexpr int kPeriod = 128;        ///< windows after which older measurements are dropped
/// The path has a queue if its round trip exceeds the shortest one by this factor and the jitter.
constexpr double kQueuedRoundTrip = 1.125;
constexpr Duration kJitter = std::chrono::milliseconds(2);
/// A queue overflows if more than 1/16 of the delivered bytes are retransmitted.
constexpr std::uint64_t kOverflowDivisor = 16;

}  // namespace

Pacer::Pacer(Duration round_trip) : window_(std::max(round_trip, kMinWindow)) {}

bool Pacer::observe(Time now, const Sample &sample) {
    whole_ = whole_ && sample.backlogged;
    least_in_window_ = std::min(least_in_window_, sample.round_trip);
    const Duration passed = now - begin_;
    // Sums over connections can shrink when a connection ends or the system does not report on it.
    const std::uint64_t delivered = sample.delivered - std::min(sample.delivered, at_begin_);
    const std::uint64_t resent = sample.resent - std::min(sample.resent, resent_at_begin_);
    const bool overflows = delivered > 0 && resent > delivered / kOverflowDivisor;
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

/// Called for windows in which all connections had data to send; others do not show what the path carries. A single window is not
/// believed: delayed acknowledgements that arrive together look like a much faster path.
void Pacer::end_window(double bytes_per_s) {
    last_[static_cast<std::size_t>(windows_) % last_.size()] = bytes_per_s;
    auto sorted = last_;
    std::ranges::sort(sorted);
    const double usual = known_ ? sorted[sorted.size() / 2] : bytes_per_s;
    flat_ = usual > std::max(period_.best, before_.best) * kGrowthThreshold ? 0 : flat_ + 1;
    known_ = known_ || flat_ >= kFlatWindows;
    period_.best = std::max(period_.best, usual);
    period_.least = std::min(period_.least, least_in_window_);
    has_queue_ = has_queue();
    if (++windows_ % kPeriod == 0) before_ = std::exchange(period_, {usual, least_in_window_});
}

bool Pacer::has_queue() const {
    const auto least = static_cast<double>(std::min(period_.least, before_.least).count());
    return least == 0 || static_cast<double>((least_in_window_ - kJitter).count()) > least * kQueuedRoundTrip;
}

std::optional<std::uint64_t> Pacer::limit() const {
    if (!known_) return std::nullopt;
    const int phase = windows_ % kCycle;
    const double gain = !has_queue_ || phase < kProbeWindows ? kProbeGain : phase < 2 * kProbeWindows ? kDrainGain : 1;
    return static_cast<std::uint64_t>(std::max(period_.best, before_.best) * gain);
}

}  // namespace pccl::peer
