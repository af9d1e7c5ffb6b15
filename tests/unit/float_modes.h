// Runs code under every floating-point mode that a program can set for its thread, and checks that results and mode are
// unchanged.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace pccl::test {

#if defined(__x86_64__)

using FloatControl = unsigned;
inline FloatControl float_control() { return __builtin_ia32_stmxcsr(); }
inline void set_float_control(FloatControl control) { __builtin_ia32_ldmxcsr(control); }
/// The bits of the mode, which are all bits except the exception flags.
inline FloatControl mode_of(FloatControl control) { return control & ~0x3FU; }

/// All combinations of flushed results, flushed operands and rounding directions.
inline std::vector<FloatControl> float_modes() {
    std::vector<FloatControl> modes;
    for (const unsigned flush : {0U, 0x8000U})
        for (const unsigned denormals_are_zero : {0U, 0x40U})
            for (const unsigned rounding : {0U, 0x2000U, 0x4000U, 0x6000U})
                modes.push_back(0x1F80U | flush | denormals_are_zero | rounding);
    return modes;
}
/// Invalid operations, divisions by zero, overflows, underflows, denormals and inexact results trap.
inline FloatControl trapping_mode() { return 0; }

#elif defined(__aarch64__)

using FloatControl = std::uint64_t;
inline FloatControl float_control() {
    FloatControl control = 0;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}
inline void set_float_control(FloatControl control) { asm volatile("msr fpcr, %0" : : "r"(control) : "memory"); }
inline FloatControl mode_of(FloatControl control) { return control; }
inline std::vector<FloatControl> float_modes() {
    std::vector<FloatControl> modes;
    for (const FloatControl flush : {FloatControl{0}, FloatControl{1} << 24U})
        for (const FloatControl rounding : {0U, 1U, 2U, 3U})
            modes.push_back(flush | rounding << 22U);
    return modes;
}
inline FloatControl trapping_mode() { return 0x1F00; }  // only some processors support traps

#else
#error "no floating-point modes are known for this processor"
#endif

/// Sets this mode for the thread during its lifetime.
class WithFloatControl {
public:
    explicit WithFloatControl(FloatControl control) : before_(float_control()) { set_float_control(control); }
    ~WithFloatControl() { set_float_control(before_); }
    WithFloatControl(const WithFloatControl &) = delete;
    WithFloatControl &operator=(const WithFloatControl &) = delete;

private:
    const FloatControl before_;
};

using Bits = std::vector<std::uint8_t>;

/// Expects that `compute` gives the same bits under every mode as under the default mode, and does not change the mode.
inline void expect_same_bits_in_every_mode(const std::string &what, const std::function<Bits()> &compute) {
    const Bits expected = compute();
    for (const FloatControl mode : float_modes()) {
        FloatControl after = 0;
        Bits found;
        {
            const WithFloatControl with(mode);
            found = compute();
            after = float_control();
        }
        EXPECT_EQ(found, expected) << what << " in mode " << mode;
        EXPECT_EQ(mode_of(after), mode_of(mode)) << what << " changes the caller's mode";
    }
    FloatControl after = 0;
    Bits found;
    {
        const WithFloatControl with(trapping_mode());
        found = compute();
        after = float_control();
    }
    EXPECT_EQ(found, expected) << what << " with traps";
    EXPECT_EQ(mode_of(after), mode_of(trapping_mode())) << what << " changes which exceptions trap";
}

}  // namespace pccl::test
