// A TCP client that sends arbitrary bytes, for tests of invalid input.
#pragma once

#include <cstdint>
#include <string>

namespace pccl::itest {

class RawClient {
public:
    /// Connects to 127.0.0.1. valid() returns whether that succeeded.
    explicit RawClient(std::uint16_t port);
    RawClient(RawClient &&other) noexcept;
    RawClient &operator=(RawClient &&) = delete;
    ~RawClient();

    bool valid() const { return fd_ >= 0; }
    /// Sends all bytes. Returns false once the other side has closed.
    bool send(const std::string &bytes);
    /// Whether the other side closes within that time. Received bytes are dropped.
    bool closed_within(int limit_ms);

private:
    int fd_ = -1;
};

}  // namespace pccl::itest
