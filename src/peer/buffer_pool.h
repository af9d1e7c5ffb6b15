// Chunk-sized scratch memory, reused while it is still in cache. I/O thread only. The buffers keep the pool alive.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "peer/packed.h"

namespace pccl::peer {

class BufferPool {
public:
    /// With more bytes in use, an operation that can use other memory does so (see RingOp).
    static constexpr std::size_t kCrowded = std::size_t{24} << 20;
    static constexpr std::size_t kGranularity = std::size_t{16} << 10;  ///< the size of a buffer is a multiple of this
    static constexpr std::size_t kMaxFree = std::size_t{8} << 20;       ///< bytes of free buffers that are kept for reuse

    BufferPool() : state_(std::make_shared<State>()) {}

    bool crowded() const { return state_->in_use > kCrowded; }

    /// Returns at least `bytes` bytes, aligned to 64.
    Buffer get(std::size_t bytes) {
        bytes = (bytes + kGranularity - 1) / kGranularity * kGranularity;
        std::byte *memory = nullptr;
        for (auto it = state_->free.rbegin(); it != state_->free.rend(); ++it) {
            if (it->second != bytes) continue;
            memory = it->first;
            state_->kept -= bytes;
            state_->free.erase(std::next(it).base());
            break;
        }
        if (!memory) memory = static_cast<std::byte *>(::operator new (bytes, std::align_val_t{64}));
        state_->in_use += bytes;
        return Buffer(memory, [state = state_, bytes](std::byte *p) { state->put(p, bytes); });
    }

private:
    struct State {
        std::vector<std::pair<std::byte *, std::size_t>> free;  ///< the last one was freed last and is most likely in cache
        std::size_t in_use = 0, kept = 0;

        void put(std::byte *memory, std::size_t bytes) {
            in_use -= bytes;
            if (kept + bytes > kMaxFree) return ::operator delete (memory, std::align_val_t{64});
            kept += bytes;
            free.emplace_back(memory, bytes);
        }
        ~State() {
            for (auto &[memory, bytes] : free)
                ::operator delete (memory, std::align_val_t{64});
        }
    };
    std::shared_ptr<State> state_;
};

}  // namespace pccl::peer
