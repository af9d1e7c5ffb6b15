// An allocation for a certain purpose failed. The error has the purpose, the size and what to do, and needs no memory itself.
#pragma once

#include <cstddef>
#include <cstdio>
#include <new>

namespace pccl {

class NoMemory : public std::bad_alloc {
public:
    /// `what_for`: "the copy of what ... overwrites"; `advice`: "call again with ...".
    NoMemory(std::size_t bytes, const char *what_for, const char *advice) noexcept {
        const bool large = bytes >= std::size_t{10} << 20;
        std::snprintf(text_, sizeof text_, "out of memory: no %zu %s for %s; %s", large ? bytes >> 20 : bytes,
                      large ? "MiB" : "bytes", what_for, advice);
    }
    const char *what() const noexcept override { return text_; }

private:
    char text_[400];
};

/// Returns the text of an error for failed allocations: that of NoMemory, or "out of memory".
inline const char *words_of(const std::bad_alloc &error) noexcept {
    const auto *known = dynamic_cast<const NoMemory *>(&error);
    return known ? known->what() : "out of memory: a small piece could not be had; free some, or raise the limit, and call again";
}

}  // namespace pccl
