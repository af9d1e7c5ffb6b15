// Limits log messages that unauthenticated connections cause: the first few of each minute are written, the others are counted.
//
//     if (quota.admit(now)) log the event in full
//     if (const auto more = quota.take_unlogged(now)) log the number of messages that were withheld
//
// A value without clock or thread, so that pure layers can hold one.
#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"

namespace pccl {

class LogQuota {
public:
    explicit LogQuota(unsigned per_window = 5, Duration window = std::chrono::minutes(1))
        : per_window_(per_window), window_(window) {}

    /// Returns whether to write this message. A window begins with its first message.
    bool admit(Time now) {
        if (!running_ || now - begin_ >= window_) {
            running_ = true;
            begin_ = now;
            in_window_ = 0;
        }
        if (in_window_ < per_window_) return ++in_window_, true;
        ++unlogged_;
        return false;
    }

    /// Returns the number of messages withheld in windows that have ended, once; 0 while a window that withholds messages is
    /// running.
    std::uint64_t take_unlogged(Time now) {
        if (unlogged_ == 0 || (running_ && now - begin_ < window_)) return 0;
        const std::uint64_t count = unlogged_;
        unlogged_ = 0;
        return count;
    }

private:
    unsigned per_window_;
    Duration window_;
    bool running_ = false;
    Time begin_{};
    unsigned in_window_ = 0;
    std::uint64_t unlogged_ = 0;
};

}  // namespace pccl
