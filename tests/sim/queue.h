// The virtual clock and the scheduled events. Events of one instant run in the order in which they were scheduled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/time.h"

namespace pccl::sim {

class EventQueue {
public:
    using Action = std::function<void()>;

    Time now() const { return now_; }
    bool empty() const { return heap_.empty(); }
    Time next_time() const { return heap_.front().at; }

    void at(Time when, Action action) {
        heap_.push_back({std::max(when, now_), planned_++, std::move(action)});
        std::push_heap(heap_.begin(), heap_.end(), later);
    }
    void after(Duration delay, Action action) { at(now_ + delay, std::move(action)); }

    void run_next() {
        std::pop_heap(heap_.begin(), heap_.end(), later);
        Event event = std::move(heap_.back());
        heap_.pop_back();
        now_ = event.at;
        event.action();
    }
    /// Advances the clock to `when`. No event may be due before it.
    void skip_to(Time when) { now_ = std::max(now_, when); }

private:
    struct Event {
        Time at;
        std::uint64_t order;
        Action action;
    };
    static bool later(const Event &a, const Event &b) { return a.at != b.at ? a.at > b.at : a.order > b.order; }

    std::vector<Event> heap_;
    Time now_{std::chrono::seconds(1)};  // not zero, which means "never" to the state machines
    std::uint64_t planned_ = 0;
};

}  // namespace pccl::sim
