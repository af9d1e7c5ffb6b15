// The budget for frames of operations that the other side of a link has not posted yet. One per link. I/O thread only.
//
// A member may send the first frames of an operation before its partner has posted it (eager frames). The partner stores them.
// The sender limits the bytes that it has sent eagerly, and the receiver limits the bytes and frames that it stores. A frame's
// credit returns when the partner posts the operation, or when the operation is known to have ended.
#pragma once

#include <algorithm>
#include <cstddef>

#include "wire/limits.h"

namespace pccl::peer {

class EagerCredit {
public:
    // The sending side.
    /// Takes credit for `bytes`. Returns false, and takes nothing, if the budget does not cover them.
    [[nodiscard]] bool take(std::size_t bytes, std::size_t budget) {
        if (sent_ + bytes > budget) return false;
        sent_ += bytes;
        return true;
    }
    /// Returns credit. An epoch may have reset it meanwhile, so at most all of it returns.
    void give_back(std::size_t bytes) { sent_ -= std::min(sent_, bytes); }

    // The receiving side.
    bool can_hold(std::size_t bytes) const {
        return held_ + bytes <= wire::kMaxEagerHeld && frames_held_ < wire::kMaxEagerFrames;
    }
    void hold(std::size_t bytes) {
        held_ += bytes;
        ++frames_held_;
    }
    /// A stored frame has been consumed or dropped. As for give_back(), an epoch may have reset the counts meanwhile.
    void release(std::size_t bytes) {
        held_ -= std::min(held_, bytes);
        frames_held_ -= frames_held_ > 0;
    }
    std::size_t frames_held() const { return frames_held_; }

    /// A new epoch has begun: no frame of an earlier one counts.
    void reset() { sent_ = held_ = frames_held_ = 0; }

private:
    std::size_t sent_ = 0;
    std::size_t held_ = 0;
    std::size_t frames_held_ = 0;
};

}  // namespace pccl::peer
