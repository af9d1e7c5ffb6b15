// The number of a link's lanes that are used. Pure: the link passes numbers, and applies the decision.
//
// Until the path's rate is known, all lanes are used: many small congestion windows together send more than one. Once it is
// known, and if the congestion control follows the path's rate instead of its losses, half of the lanes carry as much. Each then
// sends segments twice as large, which cost both ends less. If buffers at either end limit those lanes instead of the path, all
// lanes are used from then on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pccl::peer {

class LaneChoice {
public:
    /// `fixed`: the user has set the number of lanes, or the congestion control slows down after losses.
    LaneChoice(std::size_t lanes, bool fixed);

    struct Work {
        std::uint64_t busy_us = 0;     ///< time with data to send, summed over all lanes, since the link was made
        std::uint64_t held_up_us = 0;  ///< part of busy_us in which a buffer at either end was full
    };
    /// True: half of the lanes were not enough, so measurements of the path with that half must be discarded.
    bool observe(bool path_known, const Work &work);

    std::size_t lanes() const { return lanes_; }
    std::size_t in_use() const { return halved_ ? lanes_ / 2 : lanes_; }

private:
    std::size_t lanes_;
    bool decided_;
    bool halved_ = false;
    Work since_;
};

}  // namespace pccl::peer
