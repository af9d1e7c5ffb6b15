#include "perf/usage.h"

#include <fstream>
#include <malloc.h>
#include <string>
#include <sys/resource.h>

namespace pccl::perf {

namespace {

/// A line `Name:   123 kB` of /proc/self/status.
std::uint64_t status_bytes(const std::string &name) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        std::uint64_t kilobytes = 0;
        if (word == name && status >> kilobytes) return kilobytes * 1024;
    }
    return 0;
}

double seconds(const timeval &time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6; }

}  // namespace

double cpu_seconds() {
    rusage usage{};
    static_cast<void>(::getrusage(RUSAGE_SELF, &usage));
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::uint64_t resident_bytes() { return status_bytes("VmRSS:"); }

bool reset_peak() {
    static_cast<void>(::malloc_trim(0));
    std::ofstream file("/proc/self/clear_refs");
    file << "5\n" << std::flush;
    return static_cast<bool>(file);
}

std::uint64_t peak_bytes() { return status_bytes("VmHWM:"); }

}  // namespace pccl::perf
