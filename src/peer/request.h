// A caller's all-reduce, as the engine sees it, and what it leaves behind for the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "collective/ring_plan.h"
#include "wire/frame.h"

namespace pccl::peer {

/// What an in-place operation overwrote. Memory is taken as chunks are saved.
class UndoLog {
public:
    void begin(std::byte *buffer, std::size_t bytes) {
        buffer_ = buffer;
        copy_.reset(new std::byte[bytes]);  // untouched pages cost nothing
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
        copy_.reset();
    }

private:
    std::byte *buffer_ = nullptr;
    std::unique_ptr<std::byte[]> copy_;
    std::vector<collective::Span> saved_;  ///< in bytes
};

struct ReduceRequest {
    const std::byte *send = nullptr;
    std::byte *recv = nullptr;
    wire::Fingerprint what;

    std::size_t bytes() const { return what.count * kernel::size_of(what.type); }
    bool in_place() const { return send == recv; }

    // Left behind.
    std::uint64_t tx_bytes = 0, rx_bytes = 0;
    std::uint32_t world = 0;
    UndoLog undo;
};

}  // namespace pccl::peer
