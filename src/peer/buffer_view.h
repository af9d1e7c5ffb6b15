// A caller's memory as operations and state transfers access it. Other code in src/peer does not dereference a caller's pointer,
// except that a message between peers is read at its address (message_transfer.cc).
//
// A view covers host memory: an address and a length in bytes, so each access compiles to the access of the pointer itself.
// Memory of a device belongs behind the same four functions: read() and write() then return staged host memory, and copy_to() and
// copy_from() copy to and from the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "peer/careful_copy.h"

namespace pccl::peer {

/// Memory that is only read.
class ConstBufferView {
public:
    constexpr ConstBufferView() = default;
    ConstBufferView(const void *data, std::size_t bytes) : data_(static_cast<const std::byte *>(data)), bytes_(bytes) {}

    std::size_t bytes() const { return bytes_; }
    std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(data_); }
    /// The bytes from `offset` on. Valid until the caller's call returns.
    const std::byte *read(std::size_t offset) const { return data_ + offset; }
    void copy_to(std::byte *to, std::size_t offset, std::size_t bytes) const { std::memcpy(to, data_ + offset, bytes); }
    /// As copy_to(), for memory that the program may have freed. Returns false if it has.
    [[nodiscard]] bool try_copy_to(std::byte *to, std::size_t offset, std::size_t bytes) const {
        return copy_carefully(to, data_ + offset, bytes);
    }
    bool overlaps(const ConstBufferView &other) const {
        return bytes_ > 0 && other.bytes_ > 0 && address() < other.address() + other.bytes_ &&
               other.address() < address() + bytes_;
    }

private:
    const std::byte *data_ = nullptr;
    std::size_t bytes_ = 0;
};

/// Memory that is read and written.
class BufferView {
public:
    constexpr BufferView() = default;
    BufferView(void *data, std::size_t bytes) : data_(static_cast<std::byte *>(data)), bytes_(bytes) {}
    operator ConstBufferView() const { return {data_, bytes_}; }

    std::size_t bytes() const { return bytes_; }
    std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(data_); }
    const std::byte *read(std::size_t offset) const { return data_ + offset; }
    /// The bytes from `offset` on, to be filled by a kernel or by a link. Valid until the caller's call returns.
    std::byte *write(std::size_t offset) const { return data_ + offset; }
    void copy_to(std::byte *to, std::size_t offset, std::size_t bytes) const { std::memcpy(to, data_ + offset, bytes); }
    void copy_from(std::size_t offset, const std::byte *from, std::size_t bytes) const {
        std::memcpy(data_ + offset, from, bytes);
    }

private:
    std::byte *data_ = nullptr;
    std::size_t bytes_ = 0;
};

}  // namespace pccl::peer
