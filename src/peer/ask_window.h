// Limits the chunks of shared state that are requested from one holder at once. Pure: times are arguments, and the transfer keeps
// to size().
//
// With too few requests, a long path is idle for a part of each round trip. With too many, a slow holder still has most of the
// missing chunks to send when the others have finished. So the window is twice the number of chunks that the holder delivers in
// the shortest time from a request to the end of its chunk. While the path is not full, the window doubles with every round trip.
// It stops growing when the path is full.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace pccl::peer {

class AskWindow {
public:
    static constexpr std::size_t kInitial = 8, kMin = 2, kMax = 256;  ///< chunks

    /// Belongs to one request, and is kept until its chunk has arrived.
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
    /// The highest measured rate decays with every chunk, so that the window follows a path that becomes slower.
    static constexpr double kRateDecay = 0.98;

    std::uint64_t arrived_ = 0;
    Duration shortest_{};
    double rate_ = 0;  ///< chunks per microsecond
};

}  // namespace pccl::peer
