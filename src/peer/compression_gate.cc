#include "peer/compression_gate.h"

#include <algorithm>

namespace pccl::peer {

namespace {

/// What the codec saves per second of its work, over what the path delivers: from here on it is used, and below the other no more.
constexpr double kWorthIt = 2, kNotWorthIt = 1.25;
/// Rates are measured over no less, and the processor's part over this.
constexpr Duration kLeastWindow = std::chrono::milliseconds(50), kProcessorWindow = std::chrono::milliseconds(200);
/// Of its time that the thread spends in the codec: beyond it, it may be what the link waits for.
constexpr double kBusyProcessor = 0.7;
/// A trial takes so many bytes.
constexpr std::size_t kTrialBytes = std::size_t{256} << 10;
/// What is remembered: so many bytes in full, those before them ever less.
constexpr double kMemory = 4e6;
constexpr Duration kFirstPause = std::chrono::seconds(1), kLongestPause = std::chrono::minutes(1);
/// What was worth it for so long may be tried again soon.
constexpr Duration kProven = std::chrono::seconds(16);

double seconds(Duration d) { return static_cast<double>(d.count()) / 1e6; }

}  // namespace

CompressionGate::CompressionGate(Compression mode, Duration round_trip) : mode_(mode), window_(std::max(kLeastWindow, 2 * round_trip)) {
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
    // Who did not look for so long was stopped: what happened meanwhile is not known.
    if (passed < 4 * window_) {
        const double achieved = static_cast<double>(work.delivered - limited_->at.delivered) / seconds(passed);
        bytes_per_s_ = bytes_per_s_ == 0 ? achieved : (bytes_per_s_ + achieved) / 2;
        for (Kind &kind : kinds_)
            judge(kind, now);
    }
    limited_ = {now, work};
}

/// The thread may have become what all its links wait for. If this one then delivers less than its path alone would, it stops.
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

/// By what is known of it and of the path.
void CompressionGate::judge(Kind &kind, Time now) {
    if (kind.open && kind.saves_per_s() < kNotWorthIt * bytes_per_s_) return close(kind, now);
    if (kind.open || kind.tried < kTrialBytes || kind.saves_per_s() < kWorthIt * bytes_per_s_) return;
    kind.open = true;
    kind.since = now;
}

/// Until the next trial, which begins from nothing.
void CompressionGate::close(Kind &kind, Time now) {
    if (kind.open && now - kind.since >= kProven) kind.pause = kFirstPause;
    kind.next_trial = now + kind.pause;
    kind.pause = std::min(2 * kind.pause, kLongestPause);
    kind.open = false;
    kind.plain = kind.saved = kind.seconds = 0;
    kind.tried = 0;
}

}  // namespace pccl::peer
