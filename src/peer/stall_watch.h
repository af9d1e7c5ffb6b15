// Measures for how long a connection has had bytes outstanding without an acknowledgement. Pure: the caller passes numbers and
// times.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace pccl::peer {

class StallWatch {
public:
    /// Bytes acknowledged since the connection was made, and bytes written that are not acknowledged. Call it every 250 ms.
    void observe(Time now, std::uint64_t acknowledged_bytes, std::uint64_t outstanding_bytes) {
        // After a longer gap this process was stopped, and it is unknown what happened meanwhile.
        const bool gap = now - looked_ > kSchedulingGap;
        if (gap || outstanding_bytes == 0 || acknowledged_bytes != acknowledged_) since_ = now;
        looked_ = now;
        acknowledged_ = acknowledged_bytes;
        outstanding_ = outstanding_bytes;
    }

    /// 0: the connection is idle, or its bytes are acknowledged.
    Duration stalled() const { return looked_ - since_; }
    std::uint64_t outstanding_bytes() const { return outstanding_; }
    bool looked_within(Time now, Duration time) const { return now - looked_ < time; }

private:
    static constexpr Duration kSchedulingGap = std::chrono::seconds(2);

    Time looked_{}, since_{};
    std::uint64_t acknowledged_ = 0, outstanding_ = 0;
};

}  // namespace pccl::peer
