// The undo log of an in-place operation: a copy of the input that the result overwrites, so that a failed operation leaves the
// caller's buffer unchanged.
#pragma once

#include <cstddef>
#include <vector>

#include "op/span.h"
#include "peer/buffer_view.h"
#include "peer/mapped_buffer.h"

namespace pccl::peer {

/// Physical memory is taken from the system as ranges are saved. Offsets and lengths are in bytes.
class UndoLog {
public:
    void begin(BufferView buffer) {
        buffer_ = buffer;
        copy_ = MappedBuffer(buffer.bytes(), "the copy of the input that an in-place operation overwrites",
                             "free memory and call again, reduce a smaller buffer at a time, or pass a separate recvbuff");
    }
    void save(std::size_t offset, std::size_t bytes) {
        buffer_.copy_to(copy_.get() + offset, offset, bytes);
        saved_.push_back({offset, bytes});
    }
    const std::byte *at(std::size_t offset) const { return copy_.get() + offset; }
    void restore() {
        put_back();
        discard();
    }
    /// Copies all saved ranges back and empties the log.
    void put_back() {
        for (const auto &span : saved_)
            put_back(span.begin, span.count);
        forget();
    }
    void put_back(std::size_t offset, std::size_t bytes) { buffer_.copy_from(offset, at(offset), bytes); }
    /// Empties the log without copying anything back. It can be used again.
    void forget() {
        saved_.clear();
        copy_.release_pages();
    }
    void discard() {
        saved_.clear();
        copy_ = {};
    }

private:
    BufferView buffer_;
    MappedBuffer copy_;
    std::vector<op::Span> saved_;  ///< byte ranges
};

}  // namespace pccl::peer
