// Decides when a link's chunks are compressed. Pure: the link passes numbers and times, and applies the decision.
//
// The bytes that a codec saves per second of its work are compared with the bytes per second that the path delivers. If they are
// more than twice as many, sending the saved bytes would have taken longer than compressing and decompressing, even if nothing
// overlaps. The path's rate is measured while the path limits the sender, and the codec's gain on a few chunks that are
// compressed as a trial. Both continue to be measured. Trials that save no time are repeated at growing intervals. Results do not
// depend on these decisions, so the two ends of a link, and the members, need not agree on them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/time.h"

namespace pccl::peer {

/// Values equal those of the C API.
enum class Compression : std::uint8_t { automatic = 0, off, on };
inline constexpr int kCompressions = 3;

/// The work of a link since it was made.
struct LinkWork {
    std::uint64_t delivered = 0;  ///< bytes as sent, after compression
    std::uint64_t saved = 0;      ///< bytes saved by compression
    Duration codec{};             ///< time that this thread has spent in the codec, for all links
    bool busy = false;            ///< there is data to send over the link
    bool path_limited = false;    ///< and the path is what limits it
};

class CompressionGate {
public:
    /// Chunks are judged by kind: element size of 1, 2, 4 or 8 bytes; of operations, or of shared state and messages.
    static constexpr std::size_t kKinds = 8;
    static std::size_t kind_of(unsigned planes, bool state) { return (planes == 8 ? 3 : planes / 2) + (state ? 4u : 0u); }

    /// `round_trip`: of the path. Rates are measured over at least two round trips.
    explicit CompressionGate(Compression mode, Duration round_trip = {});

    /// Whether observe() must be called, every 25 milliseconds.
    bool measures() const { return mode_ == Compression::automatic; }
    void observe(Time now, const LinkWork &work);

    /// Whether chunks of that kind are compressed.
    bool open(std::size_t kind) const {
        return mode_ == Compression::on || (mode_ == Compression::automatic && kinds_[kind].open);
    }
    /// Whether the next chunk must be compressed, because the kind is open or as a trial. Call learn() with the outcome.
    bool wants(std::size_t kind, Time now) const;
    /// Whether wants() can be true. Needs no clock.
    bool may_want(std::size_t kind) const {
        return open(kind) || (mode_ == Compression::automatic && bytes_per_s_ > 0 && bytes_per_s_ < kFastest);
    }
    void learn(std::size_t kind, std::size_t plain_bytes, std::size_t packed_bytes, Duration took, Time now);

    /// Bytes per second that the path delivers; 0: unknown.
    double path_rate() const { return bytes_per_s_; }

private:
    static constexpr double kFastest = 1.25e9;  ///< bytes per second; the codecs are slower than faster paths
    struct Kind {
        bool open = false;
        Time since{};                              ///< when it was opened
        double plain = 0, saved = 0, seconds = 0;  ///< sums over the codec's recent work
        std::size_t tried = 0;                     ///< bytes compressed in this trial
        Time next_trial{};
        Duration pause{};  ///< before the trial after that
        double saves_per_s() const { return seconds > 0 ? saved / seconds : saved > 0 ? 1e12 : 0; }
    };
    void judge(Kind &kind, Time now);
    void close(Kind &kind, Time now);
    void watch_processor(Time now, const LinkWork &work);

    Compression mode_;
    Duration window_;
    double bytes_per_s_ = 0;
    std::array<Kind, kKinds> kinds_{};
    struct Stretch {
        Time begin;
        LinkWork at;
    };
    std::optional<Stretch> limited_;  ///< the time since the path began to limit the link
    std::optional<Stretch> working_;  ///< the time over which the codec's share of the thread is measured
};

}  // namespace pccl::peer
