// Decides when the master's loop acts on deadlines.
//
// Guarantee: the loop acts on a deadline only after a pass over the sockets that began after the deadline. So if this process was
// stopped or starved, the bytes that peers sent meanwhile are read before any peer is removed as silent; a plain timer would fire
// first. Runs on the loop's thread.
#pragma once

#include <functional>
#include <optional>

#include <uv.h>

#include "base/time.h"

namespace pccl::master {

class Wakeup {
public:
    /// `after_poll` runs once per iteration of the loop, after the sockets.
    Wakeup(uv_loop_t &loop, std::function<void()> after_poll);
    Wakeup(const Wakeup &) = delete;
    Wakeup &operator=(const Wakeup &) = delete;

    /// Whether to act on `deadline` now: it had passed at the last arm(), and the sockets have been read since.
    bool due(Time deadline) const;
    /// Called at the end of after_poll: the next after_poll must run at `deadline` at the latest.
    void arm(Time now, Time deadline);
    /// Starts to close. The loop must run one more iteration before this object is destroyed.
    void close();

private:
    std::function<void()> after_poll_;
    std::optional<Time> noticed_;  ///< when the last pass over the sockets began, if a deadline had passed then
    uv_timer_t timer_{};           ///< ends the wait for sockets
    uv_idle_t idle_{};             ///< makes the next pass return at once
    uv_check_t check_{};           ///< runs after the pass
};

}  // namespace pccl::master
