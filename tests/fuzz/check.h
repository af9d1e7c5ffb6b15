// What a fuzzer asserts, in every build type: a breach prints what was expected and aborts, which both libFuzzer and the replay see.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#define FUZZ_CHECK(condition)                                                                   \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            std::abort();                                                                       \
        }                                                                                       \
    } while (false)

extern "C" std::size_t __sanitizer_get_current_allocated_bytes() __attribute__((weak));

namespace pccl::fuzz {

/// Bytes on the heap, where a sanitizer counts them; else 0, so that differences are 0, too.
inline std::size_t heap_bytes() { return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() : 0; }

}  // namespace pccl::fuzz
