// How many of a link's lanes are used. Pure: fed with numbers; the link obeys.
//
// Until a path is known all lanes are: many small congestion windows let out more than one. Once it is, and the congestion control
// follows the path's rate rather than its losses, half of them carry as much, each in segments twice as large, which cost both ends
// less. Unless buffers at either end, not the path, hold each lane to less than its share: then all are used from then on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pccl::peer {

class LaneChoice {
public:
    /// `fixed`: the user has said how many there are to be, or losses alone would slow down the few.
    LaneChoice(std::size_t lanes, bool fixed);

    struct Work {
        std::uint64_t busy_us = 0;     ///< of all lanes together, since the link was made, with something to send
        std::uint64_t held_up_us = 0;  ///< of it, by a full buffer at either end
    };
    /// True: half of them were not enough. What was learnt of the path from them alone is worth nothing.
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
