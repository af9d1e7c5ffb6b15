// When the loop looks at the clock.
//
// Guarantee: a time that has come is acted on only after a pass over the sockets that began after it had come. So when this
// process was stopped or starved, what its peers sent meanwhile is read before anyone is judged silent; a plain timer would fire
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

    /// Whether what is due at `deadline` may be done now: it was due at the last arm(), and the sockets have been seen to since.
    bool due(Time deadline) const;
    /// after_poll ends with it: the next after_poll is to come at `deadline` at the latest.
    void arm(Time now, Time deadline);
    /// Begins to close; the loop must turn once more before this object may go.
    void close();

private:
    std::function<void()> after_poll_;
    std::optional<Time> noticed_;  ///< when the last pass over the sockets began, if something was due then
    uv_timer_t timer_{};           ///< ends the wait for sockets
    uv_idle_t idle_{};             ///< makes the next pass not wait
    uv_check_t check_{};           ///< runs after the pass
};

}  // namespace pccl::master
