// Since when a connection has had something to deliver and delivered nothing. Pure: fed with numbers and times.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace pccl::peer {

class StallWatch {
public:
    /// Bytes acknowledged since the connection was made, and those that were written and are not. Call it regularly.
    void observe(Time now, std::uint64_t acknowledged_bytes, std::uint64_t outstanding_bytes) {
        // Who did not look for so long was stopped: what happened meanwhile is not known.
        const bool blind = now - looked_ > kBlind;
        if (blind || outstanding_bytes == 0 || acknowledged_bytes != acknowledged_) since_ = now;
        looked_ = now;
        acknowledged_ = acknowledged_bytes;
        outstanding_ = outstanding_bytes;
    }

    /// 0: it rests, or its data arrive.
    Duration stalled() const { return looked_ - since_; }
    std::uint64_t outstanding_bytes() const { return outstanding_; }
    bool looked_within(Time now, Duration time) const { return now - looked_ < time; }

private:
    static constexpr Duration kBlind = std::chrono::seconds(2);

    Time looked_{}, since_{};
    std::uint64_t acknowledged_ = 0, outstanding_ = 0;
};

}  // namespace pccl::peer
