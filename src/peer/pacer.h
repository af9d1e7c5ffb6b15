// How fast a link may send, learnt from what arrives. Pure: fed with numbers and times; the link asks and obeys.
//
// Several connections over one long path each probe for bandwidth, and each remembers its best moment: together they send more than the
// path carries, overflow its queue, and the operation waits for the one that lost most. So the link measures what the path delivers to all
// of them, as BBR does for one (Cardwell et al., "BBR: congestion-based congestion control", 2016), and caps their sum. While the round
// trip is no longer than it has been there is no queue, and more may be sent than what arrives; if there is one, it may be somebody
// else's, or on the way back: then more is tried from time to time.
//
// What arrives shows what the path carries when all connections have more to send. They seldom do while each loses at another time and the
// operation waits for all: then it is what is lost that shows that the path is full.
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
        std::uint64_t delivered = 0;  ///< bytes that the other end has got since the link was made
        Duration round_trip{};        ///< now, of the connection where it is shortest; 0: not known
        bool backlogged = false;      ///< every connection has more to send than it can
        std::uint64_t resent = 0;     ///< bytes sent again since the link was made
    };
    /// Call every few milliseconds or tens of them. True: limit() may have changed.
    bool observe(Time now, const Sample &sample);

    /// Bytes per second of all connections together; none while the path's bandwidth is not known.
    std::optional<std::uint64_t> limit() const;

private:
    void end_window(double bytes_per_s);
    bool queue_stands() const;

    Duration window_;
    Time begin_{};
    std::uint64_t at_begin_ = 0, resent_at_begin_ = 0;
    bool whole_ = false;  ///< backlogged since the window began
    Duration least_in_window_{};    ///< round trip
    bool queue_stands_ = false;     ///< in the last one
    std::array<double, 5> last_{};  ///< bytes per second of the last windows, in turn
    struct Period {
        double best = 0;                   ///< median of bytes per second
        Duration least = Duration::max();  ///< round trip
    };
    Period period_, before_;        ///< paths change: what is older is forgotten
    int windows_ = 0;     ///< in this period
    int flat_ = 0;        ///< windows since the rate last grew by much
    bool known_ = false;  ///< it has stopped growing
};

}  // namespace pccl::peer
