// The clock with which trainers measure waiting times and pause.
//
// It is an interface because a simulation has its own time.
#pragma once

#include <chrono>

namespace pccl::train {

class Clock {
public:
    using Time = std::chrono::steady_clock::time_point;

    virtual ~Clock() = default;
    virtual Time now() = 0;
    /// Sleeps for `time`. The caller's wait hook is called meanwhile.
    virtual void pause(std::chrono::milliseconds time) = 0;
};

/// The steady clock of this machine. Thread-safe.
Clock &machine_clock();

}  // namespace pccl::train
