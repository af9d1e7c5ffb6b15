// See train/clock.h.
#include "train/clock.h"

#include <thread>

#include <pccl/extend.h>

namespace pccl::train {
namespace {

class MachineClock final : public Clock {
public:
    Time now() override { return std::chrono::steady_clock::now(); }
    void pause(std::chrono::milliseconds time) override {
        std::this_thread::sleep_for(time);
        pcclPollWaitHook();
    }
};

}  // namespace

Clock &machine_clock() {
    static MachineClock clock;
    return clock;
}

}  // namespace pccl::train
