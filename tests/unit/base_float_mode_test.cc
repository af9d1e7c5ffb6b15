#include "base/float_mode.h"

#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

#include "unit/float_modes.h"

namespace pccl {
namespace {

using test::float_control;
using test::mode_of;
using test::WithFloatControl;

TEST(FloatMode, GuardSetsTheDefaultAndRestoresTheOldMode) {
    const auto standard = mode_of(float_control());
    auto modes = test::float_modes();
    modes.push_back(test::trapping_mode());
    for (const auto mode : modes) {
        const WithFloatControl with(mode);
        {
            const FloatMode outer;
            EXPECT_EQ(mode_of(float_control()), standard);
            const FloatMode inner;
            EXPECT_EQ(mode_of(float_control()), standard);
        }
        EXPECT_EQ(mode_of(float_control()), mode_of(mode));
    }
}

TEST(FloatMode, IsRestoredWhenAnExceptionPasses) {
    const WithFloatControl with(test::float_modes().back());
    const auto before = mode_of(float_control());
    try {
        const FloatMode mode{KeepFlags{}};
        throw std::runtime_error("passes");
    } catch (const std::runtime_error &) {
    }
    EXPECT_EQ(mode_of(float_control()), before);
}

#if defined(__x86_64__)
TEST(FloatMode, KeepsTheFlagsOfItsCaller) {
    const auto before = float_control();
    {
        const FloatMode mode{KeepFlags{}};
        volatile float zero = 0.0F;
        volatile float out = 1.0F / zero;
        static_cast<void>(out);
        EXPECT_NE(float_control(), before) << "a division by zero sets no flag";
    }
    EXPECT_EQ(float_control(), before);
}
#endif

TEST(FloatMode, ThreadInheritsTheModeOfItsCreator) {  // the reason why threads of the library set theirs
    const WithFloatControl with(test::float_modes().back());
    test::FloatControl inherited = 0;
    std::thread([&] { inherited = float_control(); }).join();
    EXPECT_EQ(mode_of(inherited), mode_of(test::float_modes().back()));
}

}  // namespace
}  // namespace pccl
