// See compression_gate.h.
#include "peer/compression_gate.h"

#include <algorithm>

namespace pccl::peer {

namespace {

/// Bytes saved per second of codec time, divided by the path's rate: compression starts at the first value and stops below the
/// second.
constexpr double kStartRatio = 2, kStopRatio = 1.25;
/// Shortest time over which the path's rate is measured, and the time over which the codec's share of the thread is measured.
constexpr Duration kLeastWindow = std::chrono::milliseconds(50), kProcessorWindow = std::chrono::milliseconds(200);
/// If the thread spends more than this share of its time in the codec, the codec may be what limits the link.
constexpr double kBusyProcessor = 0.7;
/// Bytes compressed in a trial.
constexpr std::size_t kTrialBytes = std::size_t{256} << 10;
/// After this many bytes, the weight of all earlier measurements is halved.
constexpr double kMemory = 4e6;
constexpr Duration kFirstPause = std::chrono::seconds(1), kLongestPause = std::chrono::minutes(1);
/// A kind that was compressed for this long is tried again after the first pause.
constexpr Duration kProven = std::chrono::seconds(16);

double seconds(Duration d) { return static_cast<double>(d.count()) / 1e6; }

}  // namespace

CompressionGate::CompressionGate(Compression mode, Duration round_trip)
    : mode_(mode), window_(std::max(kLeastWindow, 2 * round_trip)) {
    for (Kind &kind : kinds_)
        kind.pause = kFirstPause;
}

void CompressionGate::observe(Time now, const LinkWork &work) {
    if (mode_ != Compression::automatic) return;
    watch_processor(now, work);
    if (!work.busy || !work.path_limited) return limited_.reset();
    if (!limited_) {
        limited_ = {now, work};
        return;
    }
    const Duration passed = now - limited_->begin;
    if (passed < window_) return;
    // After a longer gap, this process was stopped, and the measurement is void.
    if (passed < 4 * window_) {
        const double achieved = static_cast<double>(work.delivered - limited_->at.delivered) / seconds(passed);
        bytes_per_s_ = bytes_per_s_ == 0 ? achieved : (bytes_per_s_ + achieved) / 2;
        for (Kind &kind : kinds_)
            judge(kind, now);
    }
    limited_ = {now, work};
}

/// The codec may use so much of the thread that it limits all links. If this link then delivers less than its path carries, it
/// stops compressing.
void CompressionGate::watch_processor(Time now, const LinkWork &work) {
    if (!work.busy || std::ranges::none_of(kinds_, &Kind::open)) return working_.reset();
    if (!working_) {
        working_ = {now, work};
        return;
    }
    const Duration passed = now - working_->begin;
    if (passed < kProcessorWindow) return;
    const double in_codec = static_cast<double>((work.codec - working_->at.codec).count()) / static_cast<double>(passed.count());
    const auto &before = working_->at;
    const double delivered = static_cast<double>(work.delivered - before.delivered + work.saved - before.saved) / seconds(passed);
    if (in_codec > kBusyProcessor && delivered < bytes_per_s_) {
        for (Kind &kind : kinds_)
            if (kind.open) close(kind, now);
    }
    working_ = {now, work};
}

bool CompressionGate::wants(std::size_t kind, Time now) const {
    return open(kind) || (may_want(kind) && now >= kinds_[kind].next_trial);
}

void CompressionGate::learn(std::size_t which, std::size_t plain_bytes, std::size_t packed_bytes, Duration took, Time now) {
    if (mode_ != Compression::automatic) return;
    Kind &kind = kinds_[which];
    if (kind.plain > kMemory) {
        kind.plain /= 2;
        kind.saved /= 2;
        kind.seconds /= 2;
    }
    kind.plain += static_cast<double>(plain_bytes);
    kind.saved += static_cast<double>(plain_bytes - std::min(plain_bytes, packed_bytes));
    kind.seconds += seconds(took);
    if (kind.open) return judge(kind, now);
    kind.tried += plain_bytes;
    if (kind.tried < kTrialBytes) return;
    judge(kind, now);
    if (!kind.open) close(kind, now);
}

/// Starts or stops compressing a kind, by its measurements and the path's rate.
void CompressionGate::judge(Kind &kind, Time now) {
    if (kind.open && kind.saves_per_s() < kStopRatio * bytes_per_s_) return close(kind, now);
    if (kind.open || kind.tried < kTrialBytes || kind.saves_per_s() < kStartRatio * bytes_per_s_) return;
    kind.open = true;
    kind.since = now;
}

/// Stops compressing a kind until the next trial, which starts with no measurements.
void CompressionGate::close(Kind &kind, Time now) {
    if (kind.open && now - kind.since >= kProven) kind.pause = kFirstPause;
    kind.next_trial = now + kind.pause;
    kind.pause = std::min(2 * kind.pause, kLongestPause);
    kind.open = false;
    kind.plain = kind.saved = kind.seconds = 0;
    kind.tried = 0;
}

}  // namespace pccl::peer
