// The block of memory for the outer state: allocated, provided by the caller, or a file mapped into memory. Aligned to 64 bytes
// and zeroed.
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
    /// Uses the caller's `buffer`, which must have at least `bytes` and must outlive this object.
    Outcome use(void *buffer, std::size_t buffer_bytes, std::size_t bytes);
    /// Maps a file, which is created or overwritten.
    Outcome map(const std::string &path, std::size_t bytes);

    /// The next `count` unused floats. `count` must be a multiple of 16.
    float *take(std::size_t count);

private:
    std::byte *data_ = nullptr;
    std::size_t taken_ = 0;
    std::size_t mapped_bytes_ = 0;
    bool owned_ = false;
};

}  // namespace pccl::train
