// How many chunks of shared state to have asked of one holder at a time. Pure: fed with times; the transfer asks and obeys.
//
// Too few, and a long path runs dry while answers and requests are under way; too many, and a slow holder is left with most of
// what is missing when the others are done. So the window is twice what the holder delivers in the shortest time that a chunk has
// taken from its request to its end: while the path is not full it doubles with every round trip, and it stops growing when the
// path is full.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace pccl::peer {

class AskWindow {
public:
    static constexpr std::size_t kInitial = 8, kMin = 2, kMax = 256;  ///< chunks

    /// Of one request: kept until its chunk has arrived.
    struct Ticket {
        Time asked;
        std::uint64_t arrived_before = 0;
    };
    Ticket ask(Time now) const { return {now, arrived_}; }

    void arrived(Time now, const Ticket &ticket) {
        ++arrived_;
        const Duration took = std::max(now - ticket.asked, Duration(1));
        shortest_ = shortest_ == Duration{} ? took : std::min(shortest_, took);
        const double rate = static_cast<double>(arrived_ - ticket.arrived_before) / static_cast<double>(took.count());
        rate_ = std::max(rate, rate_ * kRateDecay);
    }

    std::size_t size() const {
        if (arrived_ < kInitial) return kInitial;
        return std::clamp(static_cast<std::size_t>(2 * rate_ * static_cast<double>(shortest_.count())), kMin, kMax);
    }

private:
    /// The best rate counts for less with every chunk, so that a path that has become slower is found out.
    static constexpr double kRateDecay = 0.98;

    std::uint64_t arrived_ = 0;
    Duration shortest_{};
    double rate_ = 0;  ///< chunks per microsecond
};

}  // namespace pccl::peer
