// Memory beside a caller's buffer: what an in-place operation overwrote, and the residuals of quantization.
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include "base/no_memory.h"
#include "collective/ring_plan.h"

namespace pccl::peer {

/// Pages of their own: large ones where the system has them, since each page costs a fault, and given back at the end.
class UndoMemory {
public:
    UndoMemory() = default;
    /// `what_for` and `advice` are for the words of NoMemory.
    UndoMemory(std::size_t bytes, const char *what_for, const char *advice) : bytes_(bytes) {
        void *pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) throw NoMemory(bytes, what_for, advice);
        ::madvise(pages, bytes, MADV_HUGEPAGE);
        memory_ = static_cast<std::byte *>(pages);
    }
    UndoMemory(UndoMemory &&o) noexcept : memory_(std::exchange(o.memory_, nullptr)), bytes_(o.bytes_) {}
    UndoMemory &operator=(UndoMemory &&o) noexcept {
        std::swap(memory_, o.memory_);
        std::swap(bytes_, o.bytes_);
        return *this;
    }
    ~UndoMemory() {
        if (memory_) ::munmap(memory_, bytes_);
    }
    std::byte *get() const { return memory_; }
    /// Gives the memory back to the system; it may be used again.
    void empty() {
        if (memory_) ::madvise(memory_, bytes_, MADV_DONTNEED);
    }

private:
    std::byte *memory_ = nullptr;
    std::size_t bytes_ = 0;
};

/// What an in-place operation overwrote. Memory is taken from the system as chunks are saved.
class UndoLog {
public:
    void begin(std::byte *buffer, std::size_t bytes) {
        buffer_ = buffer;
        copy_ = UndoMemory(bytes, "the copy of what an in-place all-reduce overwrites",
                           "free some and call again, reduce less at a time, or give a recvbuff of its own");
    }
    void save(std::size_t offset, std::size_t bytes) {
        std::memcpy(copy_.get() + offset, buffer_ + offset, bytes);
        saved_.push_back({offset, bytes});
    }
    const std::byte *at(std::size_t offset) const { return copy_.get() + offset; }
    void restore() {
        put_back();
        discard();
    }
    /// Everything that was saved goes back to where it was; the log begins anew.
    void put_back() {
        for (const auto &span : saved_) std::memcpy(buffer_ + span.begin, copy_.get() + span.begin, span.count);
        forget();
    }
    void put_back(std::size_t offset, std::size_t bytes) { std::memcpy(buffer_ + offset, copy_.get() + offset, bytes); }
    /// What was saved is not needed any more; the log begins anew.
    void forget() {
        saved_.clear();
        copy_.empty();
    }
    void discard() {
        saved_.clear();
        copy_ = {};
    }

private:
    std::byte *buffer_ = nullptr;
    UndoMemory copy_;
    std::vector<op::Span> saved_;  ///< in bytes
};

}  // namespace pccl::peer
