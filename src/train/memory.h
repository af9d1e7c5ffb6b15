// The block of memory that the outer state lies in: allocated, the caller's, or a file mapped to memory. Aligned to 64 bytes and zeroed.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "train/outcome.h"

namespace pccl::train {

class Memory {
public:
    Memory() = default;
    ~Memory();
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    Outcome allocate(std::size_t bytes);
    /// `buffer` has at least `bytes` and outlives this.
    Outcome use(void *buffer, std::size_t buffer_bytes, std::size_t bytes);
    /// Creates the file or overwrites it.
    Outcome map(const std::string &path, std::size_t bytes);

    /// The next `count` floats that were not taken yet. `count` is a multiple of 16.
    float *take(std::size_t count);

private:
    std::byte *data_ = nullptr;
    std::size_t taken_ = 0;
    std::size_t mapped_bytes_ = 0;
    bool owned_ = false;
};

}  // namespace pccl::train
