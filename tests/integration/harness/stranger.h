// A TCP client that knows nothing of the protocol, or too much: for tests that send what no peer would.
#pragma once

#include <cstdint>
#include <string>

namespace pccl::itest {

class Stranger {
public:
    /// Connects to 127.0.0.1. valid() says whether that worked.
    explicit Stranger(std::uint16_t port);
    Stranger(Stranger &&other) noexcept;
    Stranger &operator=(Stranger &&) = delete;
    ~Stranger();

    bool valid() const { return fd_ >= 0; }
    /// Sends all of it; false once the other side has closed.
    bool send(const std::string &bytes);
    /// Whether the other side closes within that time. Reads and drops what it sends.
    bool closed_within(int limit_ms);

private:
    int fd_ = -1;
};

}  // namespace pccl::itest
