// See wakeup.h.
#include "master/wakeup.h"

#include <algorithm>

namespace pccl::master {
namespace {

constexpr Duration kLongest = std::chrono::hours(1);

}  // namespace

Wakeup::Wakeup(uv_loop_t &loop, std::function<void()> after_poll) : after_poll_(std::move(after_poll)) {
    // None of these can fail, because they allocate no memory.
    uv_timer_init(&loop, &timer_);
    uv_idle_init(&loop, &idle_);
    uv_check_init(&loop, &check_);
    check_.data = this;
    uv_check_start(&check_, [](uv_check_t *check) { static_cast<Wakeup *>(check->data)->after_poll_(); });
}

bool Wakeup::due(Time deadline) const { return noticed_ && deadline <= *noticed_; }

void Wakeup::arm(Time now, Time deadline) {
    if (now >= deadline) {
        noticed_ = now;
        uv_idle_start(&idle_, [](uv_idle_t *) {});
        return;
    }
    noticed_.reset();
    uv_idle_stop(&idle_);
    const Duration wait = std::min(deadline - now, kLongest);
    const auto wait_ms = static_cast<std::uint64_t>((wait.count() + 999) / 1000);
    uv_update_time(check_.loop);
    uv_timer_start(
        &timer_, [](uv_timer_t *) {}, wait_ms, 0);
}

void Wakeup::close() {
    uv_close(reinterpret_cast<uv_handle_t *>(&timer_), nullptr);
    uv_close(reinterpret_cast<uv_handle_t *>(&idle_), nullptr);
    uv_close(reinterpret_cast<uv_handle_t *>(&check_), nullptr);
}

}  // namespace pccl::master
