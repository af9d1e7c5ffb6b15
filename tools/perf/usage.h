// What this process has used of the machine: processor time and memory. Any thread.
#pragma once

#include <cstdint>
#include <optional>

namespace pccl::perf {

/// Seconds of processor time of all threads so far, user and system.
double cpu_seconds();

/// Bytes in memory now (VmRSS). 0 if the system does not say.
std::uint64_t resident_bytes();

/// Makes the peak begin anew, and gives freed memory back first, so that it does not count. False if the system cannot.
bool reset_peak();
/// The most bytes in memory (VmHWM) since then.
std::uint64_t peak_bytes();

}  // namespace pccl::perf
