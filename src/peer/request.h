// A caller's all-reduce, as the engine sees it, and what it leaves behind for the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include "collective/ring_plan.h"
#include "wire/frame.h"

namespace pccl::peer {

/// Pages of their own: large ones where the system has them, since each page costs a fault, and given back at the end.
class UndoMemory {
public:
    UndoMemory() = default;
    explicit UndoMemory(std::size_t bytes) : bytes_(bytes) {
        void *pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) throw std::bad_alloc();
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

private:
    std::byte *memory_ = nullptr;
    std::size_t bytes_ = 0;
};

/// What an in-place operation overwrote. Memory is taken from the system as chunks are saved.
class UndoLog {
public:
    void begin(std::byte *buffer, std::size_t bytes) {
        buffer_ = buffer;
        copy_ = UndoMemory(bytes);
    }
    void save(std::size_t offset, std::size_t bytes) {
        std::memcpy(copy_.get() + offset, buffer_ + offset, bytes);
        saved_.push_back({offset, bytes});
    }
    const std::byte *at(std::size_t offset) const { return copy_.get() + offset; }
    void restore() {
        for (const auto &span : saved_) std::memcpy(buffer_ + span.begin, copy_.get() + span.begin, span.count);
        discard();
    }
    void discard() {
        saved_.clear();
        copy_ = {};
    }

private:
    std::byte *buffer_ = nullptr;
    UndoMemory copy_;
    std::vector<collective::Span> saved_;  ///< in bytes
};

struct ReduceRequest {
    const std::byte *send = nullptr;
    std::byte *recv = nullptr;
    wire::Fingerprint what;

    std::size_t bytes() const { return what.count * kernel::size_of(what.type); }
    bool in_place() const { return send == recv; }

    bool overlaps_itself() const { return !in_place() && overlap(send, bytes(), recv, bytes()); }
    /// One writes what the other reads or writes. Reading the same is no harm.
    bool overlaps(const ReduceRequest &o) const {
        return overlap(recv, bytes(), o.recv, o.bytes()) || overlap(recv, bytes(), o.send, o.bytes()) ||
               overlap(send, bytes(), o.recv, o.bytes());
    }

    // Left behind.
    std::uint64_t tx_bytes = 0, rx_bytes = 0;
    std::uint32_t world = 0;
    wire::Algorithm algorithm{};    ///< taken
    std::size_t lanes = 0;          ///< of the link to the successor, at the start
    std::size_t chunk_elements = 0; ///< of the largest chunk
    UndoLog undo;

private:
    static bool overlap(const std::byte *a, std::size_t a_bytes, const std::byte *b, std::size_t b_bytes) {
        const auto first = reinterpret_cast<std::uintptr_t>(a), second = reinterpret_cast<std::uintptr_t>(b);
        return first < second + b_bytes && second < first + a_bytes;
    }
};

}  // namespace pccl::peer
