// See lane_choice.h.
#include "peer/lane_choice.h"

namespace pccl::peer {

namespace {

/// Up to this number, all lanes are used.
constexpr std::size_t kFew = 4;
/// Half of the lanes are judged after this much busy time, by the share of it in which a buffer held them up.
constexpr std::uint64_t kJudgedUs = 2'000'000;
constexpr double kHeldUp = 0.03;

}  // namespace

LaneChoice::LaneChoice(std::size_t lanes, bool fixed) : lanes_(lanes), decided_(fixed || lanes <= kFew) {}

bool LaneChoice::observe(bool path_known, const Work &work) {
    if (decided_ || !path_known) return false;
    const std::uint64_t judged = work.busy_us - since_.busy_us;
    if (halved_ && judged < kJudgedUs) return false;
    const bool too_few =
        halved_ && static_cast<double>(work.held_up_us - since_.held_up_us) > kHeldUp * static_cast<double>(judged);
    since_ = work;
    halved_ = !too_few;
    decided_ = too_few;
    return too_few;
}

}  // namespace pccl::peer
