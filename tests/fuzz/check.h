// Assertions of fuzzers, in every build type: a violation prints the expectation and aborts, which both libFuzzer and replay.cc
// report.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#define FUZZ_CHECK(condition)                                                                                                    \
    do {                                                                                                                         \
        if (!(condition)) {                                                                                                      \
            std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                                  \
            std::abort();                                                                                                        \
        }                                                                                                                        \
    } while (false)

extern "C" std::size_t __sanitizer_get_current_allocated_bytes() __attribute__((weak));

namespace pccl::fuzz {

/// Bytes on the heap in builds whose sanitizer counts them. 0 in others, so that differences are 0.
inline std::size_t heap_bytes() {
    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() : 0;
}

}  // namespace pccl::fuzz
