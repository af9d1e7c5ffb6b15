// The time by which trainers measure what they wait for, and how they let some of it pass.
//
// (An interface, because a simulation has a time of its own.)
#pragma once

#include <chrono>

namespace pccl::train {

class Clock {
public:
    using Time = std::chrono::steady_clock::time_point;

    virtual ~Clock() = default;
    virtual Time now() = 0;
    /// Sleeps, and lets the caller's wait hook see that it does.
    virtual void pause(std::chrono::milliseconds time) = 0;
};

/// That of this machine. Thread-safe.
Clock &machine_clock();

}  // namespace pccl::train
