// The rate at which a link may send, learned from the delivery rate. Pure: the link passes numbers and times, and applies the
// limit.
//
// When several connections share one long path, each probes for bandwidth and remembers its best rate. Together they send more
// than the path carries, its queue overflows, and the operation waits for the connection that lost most. So the link measures the
// delivery rate of all connections together, as BBR does for one (Cardwell et al., "BBR: congestion-based congestion control",
// 2016), and limits their sum. While the round trip is as short as it has ever been, the path has no queue, and the link may send
// faster than the delivery rate. A queue can belong to other traffic, or be on the way back, so the link probes for more at
// intervals.
//
// The delivery rate is what the path carries if all connections have more to send. That is rare while connections lose packets at
// different times and the operation waits for all of them. In that case, retransmissions show that the path is full.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/time.h"

namespace pccl::peer {

class Pacer {
public:
    explicit Pacer(Duration round_trip);

    struct Sample {
        std::uint64_t delivered = 0;  ///< bytes that the other end has received since the link was made
        Duration round_trip{};        ///< the shortest one of the connections at present; 0: unknown
        bool backlogged = false;      ///< every connection has more to send than its socket takes
        std::uint64_t resent = 0;     ///< bytes retransmitted since the link was made
    };
    /// Call every few milliseconds, at most every 25 ms. True: limit() may have changed.
    bool observe(Time now, const Sample &sample);

    /// Bytes per second of all connections together; empty while the bandwidth of the path is unknown.
    std::optional<std::uint64_t> limit() const;

private:
    void end_window(double bytes_per_s);
    bool has_queue() const;

    Duration window_;
    Time begin_{};
    std::uint64_t at_begin_ = 0, resent_at_begin_ = 0;
    bool whole_ = false;            ///< backlogged since the window began
    Duration least_in_window_{};    ///< round trip
    bool has_queue_ = false;        ///< in the last window
    std::array<double, 5> last_{};  ///< bytes per second of the last windows, a ring buffer
    struct Period {
        double best = 0;                   ///< median of bytes per second
        Duration least = Duration::max();  ///< round trip
    };
    Period period_, before_;  ///< older measurements are dropped, because paths change
    int windows_ = 0;         ///< in this period
    int flat_ = 0;            ///< windows since the rate last grew by kGrowthThreshold
    bool known_ = false;      ///< the rate has stopped growing
};

}  // namespace pccl::peer
