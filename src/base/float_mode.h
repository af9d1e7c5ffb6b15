// The floating-point mode of the calling thread: rounding direction, flushing of denormals, traps.
//
// Guarantee: while a FloatMode lives, its thread computes in the default mode of IEEE 754 (round to nearest even, denormals kept,
// no traps). Afterwards the thread has the mode that it had before, and with KeepFlags the exception flags too. Results that must
// be the same bits at all peers are computed under a FloatMode, because a program can change the mode of its threads, and a new
// thread inherits its creator's. Where the mode is the default already, the control register is only read. Any thread; nests.
#pragma once

#include <cstdint>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <cfenv>
#endif

namespace pccl {

/// Restores the exception flags as well, for calls from a program that may read them.
struct KeepFlags {};

class FloatMode {
public:
    explicit FloatMode(KeepFlags) noexcept : FloatMode() { keep_flags_ = true; }
    FloatMode() noexcept {
#if defined(__x86_64__)
        before_ = __builtin_ia32_stmxcsr();
        if ((before_ & ~kFlags) != kDefault) __builtin_ia32_ldmxcsr(kDefault);
#elif defined(__aarch64__)
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("mrs %0, fpsr" : "=r"(flags_));
        if (before_ != 0) asm volatile("msr fpcr, %0" : : "r"(std::uint64_t{0}) : "memory");
#else
        std::feholdexcept(&before_);
        std::fesetenv(FE_DFL_ENV);
#endif
        asm volatile("" : : : "memory");
    }

    ~FloatMode() {
        asm volatile("" : : : "memory");
#if defined(__x86_64__)
        if (keep_flags_ || (before_ & ~kFlags) != kDefault) __builtin_ia32_ldmxcsr(before_);
#elif defined(__aarch64__)
        if (before_ != 0) asm volatile("msr fpcr, %0" : : "r"(before_) : "memory");
        if (keep_flags_) asm volatile("msr fpsr, %0" : : "r"(flags_) : "memory");
#else
        std::fesetenv(&before_);
#endif
    }

    FloatMode(const FloatMode &) = delete;
    FloatMode &operator=(const FloatMode &) = delete;

private:
    bool keep_flags_ = false;
#if defined(__x86_64__)
    static constexpr unsigned kFlags = 0x3F, kDefault = 0x1F80;  // MXCSR: all traps masked, nearest, no FTZ, no DAZ
    unsigned before_;
#elif defined(__aarch64__)
    std::uint64_t before_, flags_;
#else
    std::fenv_t before_;
#endif
};

}  // namespace pccl
