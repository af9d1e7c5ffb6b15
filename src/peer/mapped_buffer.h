// Memory mapped directly from the system: the copy of an in-place operation's input, and the residuals of quantization. Any
// thread.
#pragma once

#include <cstddef>
#include <utility>

#include <sys/mman.h>

#include "base/no_memory.h"

namespace pccl::peer {

/// Uses huge pages where the system has them, because each page costs a fault. The memory begins as zeros, takes no physical
/// memory until it is written, and is unmapped at the end.
class MappedBuffer {
public:
    MappedBuffer() = default;
    /// `what_for` and `advice` are for the text of NoMemory.
    MappedBuffer(std::size_t bytes, const char *what_for, const char *advice) : bytes_(bytes) {
        void *pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) throw NoMemory(bytes, what_for, advice);
        ::madvise(pages, bytes, MADV_HUGEPAGE);
        memory_ = static_cast<std::byte *>(pages);
    }
    MappedBuffer(MappedBuffer &&o) noexcept : memory_(std::exchange(o.memory_, nullptr)), bytes_(o.bytes_) {}
    MappedBuffer &operator=(MappedBuffer &&o) noexcept {
        std::swap(memory_, o.memory_);
        std::swap(bytes_, o.bytes_);
        return *this;
    }
    ~MappedBuffer() {
        if (memory_) ::munmap(memory_, bytes_);
    }
    std::byte *get() const { return memory_; }
    /// Returns the physical memory to the system. The buffer can be used again and then contains zeros.
    void release_pages() {
        if (memory_) ::madvise(memory_, bytes_, MADV_DONTNEED);
    }

private:
    std::byte *memory_ = nullptr;
    std::size_t bytes_ = 0;
};

}  // namespace pccl::peer
