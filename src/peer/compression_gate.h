// When a link's chunks are worth compressing. Pure: fed with numbers and times; the link asks and obeys.
//
// What a codec saves per second of its work is set against what the path delivers per second: if it is more than twice that, the bytes
// saved would have taken longer than saving them and undoing it at the other end does, even if nothing overlaps. The path's rate is
// measured while it is what holds the sender up, the codec's gain on a few chunks tried then; both go on being measured. What does not
// pay is tried again ever more rarely. Results do not depend on any of this, so the ends of a link, and members, need not agree.
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

/// What a link has done since it was made.
struct LinkWork {
    std::uint64_t delivered = 0;     ///< bytes, as they travelled
    std::uint64_t saved = 0;         ///< bytes that did not have to travel
    Duration codec{};                ///< that this thread has compressed and decompressed, for any link
    bool busy = false;               ///< somebody has something to send over it
    bool path_limited = false;       ///< and the path is what it waits for
};

class CompressionGate {
public:
    /// Chunks are judged by what they are: bytes or elements of 2, 4 or 8 bytes, of operations or of state, shared or in messages.
    static constexpr std::size_t kKinds = 8;
    static std::size_t kind_of(unsigned planes, bool state) {
        return (planes == 8 ? 3 : planes / 2) + (state ? 4u : 0u);
    }

    /// `round_trip`: of the path; rates are measured over no less than two.
    explicit CompressionGate(Compression mode, Duration round_trip = {});

    /// Whether it has anything to learn: call observe() every few tens of milliseconds then.
    bool measures() const { return mode_ == Compression::automatic; }
    void observe(Time now, const LinkWork &work);

    /// Whether chunks of that kind are compressed from now on.
    bool open(std::size_t kind) const { return mode_ == Compression::on || (mode_ == Compression::automatic && kinds_[kind].open); }
    /// Whether the next one is to be compressed: that, or to see what it gives; learn() is told then.
    bool wants(std::size_t kind, Time now) const;
    /// Without a clock: whether wants() may be true.
    bool may_want(std::size_t kind) const { return open(kind) || (mode_ == Compression::automatic && bytes_per_s_ > 0 && bytes_per_s_ < kFastest); }
    void learn(std::size_t kind, std::size_t plain_bytes, std::size_t packed_bytes, Duration took, Time now);

    /// What the path delivers, in bytes per second; 0: not known.
    double path_rate() const { return bytes_per_s_; }

private:
    static constexpr double kFastest = 1.25e9;  ///< no codec of ours keeps up with such a path
    struct Kind {
        bool open = false;
        Time since{};                      ///< it is open
        double plain = 0, saved = 0, seconds = 0;  ///< of the codec's work, lately
        std::size_t tried = 0;             ///< bytes of this trial
        Time next_trial{};
        Duration pause{};                  ///< before the trial after that
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
    std::optional<Stretch> limited_;  ///< the path has been what the link waits for since then
    std::optional<Stretch> working_;  ///< since when the processor's part is measured
};

}  // namespace pccl::peer
