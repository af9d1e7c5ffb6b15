// Resource usage of this process: processor time and memory. Any thread.
#pragma once

#include <cstdint>
#include <optional>

namespace pccl::perf {

/// Seconds of processor time of all threads so far, user and system.
double cpu_seconds();

/// Returns the bytes in memory now (VmRSS), or 0 if the system does not report them.
std::uint64_t resident_bytes();

/// Resets the peak, after it returns freed memory to the system so that it does not count. Returns false if the system cannot.
bool reset_peak();
/// Returns the peak of bytes in memory (VmHWM) since the last reset.
std::uint64_t peak_bytes();

}  // namespace pccl::perf
