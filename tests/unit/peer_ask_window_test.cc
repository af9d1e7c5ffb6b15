// The number of chunks that are requested from a holder follows its delivery rate.
#include "peer/ask_window.h"

#include <deque>

#include <gtest/gtest.h>

namespace pccl::peer {
namespace {

using namespace std::chrono_literals;

/// A holder that gets as many requests as the window allows, over a path with a given round trip. It sends each chunk in a given
/// time.
class Holder {
public:
    Holder(Duration round_trip, Duration per_chunk) : round_trip_(round_trip), per_chunk_(per_chunk) {}

    /// Returns the number of chunks that arrive in this time.
    std::uint64_t run(Duration time) {
        std::uint64_t arrived = 0;
        for (const Time end = now_ + time; now_ < end; ++arrived) {
            while (asked_.size() < window.size()) {
                free_ = std::max(free_, now_ + round_trip_) + per_chunk_;
                asked_.push_back({window.ask(now_), free_});
            }
            now_ = asked_.front().arrives;
            window.arrived(now_, asked_.front().ticket);
            asked_.pop_front();
        }
        return arrived;
    }
    void become(Duration per_chunk) { per_chunk_ = per_chunk; }

    AskWindow window;

private:
    struct Asked {
        AskWindow::Ticket ticket;
        Time arrives;
    };
    Duration round_trip_, per_chunk_;
    Time now_{1s}, free_{};
    std::deque<Asked> asked_;
};

TEST(AskWindow, FillsALongFastPath) {
    Holder holder(100ms, 8400us);     // 1 Gbit/s
    holder.run(600ms);                // until the path is full
    EXPECT_GE(holder.run(2s), 230U);  // the path carries 238
    EXPECT_LE(holder.window.size(), 40U);
}

TEST(AskWindow, FillsAPathOf10GbitPerSecond) {
    Holder holder(100ms, 840us);
    holder.run(1s);
    EXPECT_GE(holder.run(2s), 2300U);  // the path carries 2380
    EXPECT_LE(holder.window.size(), AskWindow::kMax);
}

TEST(AskWindow, RequestsLittleFromASlowHolder) {
    Holder holder(10ms, 800ms);  // 10 Mbit/s
    holder.run(10s);
    EXPECT_LE(holder.window.size(), 3U);
}

TEST(AskWindow, ShrinksWhenAHolderBecomesSlow) {
    Holder holder(100ms, 8400us);
    holder.run(2s);
    EXPECT_GE(holder.window.size(), 20U);
    holder.become(840ms);
    holder.run(200s);
    EXPECT_LE(holder.window.size(), 4U);
}

}  // namespace
}  // namespace pccl::peer
