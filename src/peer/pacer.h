// How fast a link may send, learnt from what arrives. Pure: fed with numbers and times; the link asks and obeys.
//
// Several connections over one long path each probe for bandwidth, and each remembers its best moment: together they send more than the
// path carries, overflow its queue, and the operation waits for the one that lost most. So the link measures what the path delivers to all
// of them, as BBR does for one (Cardwell et al., "BBR: congestion-based congestion control", 2016), and caps their sum.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/time.h"

namespace pccl::peer {

class Pacer {
public:
    explicit Pacer(Duration round_trip);

    /// What the other end has got since the link was made, and whether every connection has more to send than it can. Call every few
    /// milliseconds or tens of them. True: limit() may have changed.
    bool observe(Time now, std::uint64_t delivered_bytes, bool backlogged);

    /// Bytes per second of all connections together; none while the path's bandwidth is not known.
    std::optional<std::uint64_t> limit() const;

private:
    void end_window(double bytes_per_s);

    Duration window_;
    Time begin_{};
    std::uint64_t at_begin_ = 0;
    bool whole_ = false;  ///< backlogged since the window began
    std::array<double, 3> last_{};  ///< bytes per second of the last windows, in turn
    double best_ = 0;     ///< of this period, of their medians
    double before_ = 0;   ///< of the period before
    int windows_ = 0;     ///< in this period
    int flat_ = 0;        ///< windows since the rate last grew by much
    bool known_ = false;  ///< it has stopped growing
};

}  // namespace pccl::peer
