// A host of the lab: a network namespace without a name, with a loopback and one TUN device `wan0`. The namespace exists as
// long as this object or a process in it, so that the system removes it however the lab ends.
#pragma once

#include "forwarder/packet.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace netlab {

/// Owns a file descriptor.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd &operator=(Fd &&other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Fd();
    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }

private:
    int fd_ = -1;
};

struct Host {
    std::string address;
    Fd space;   // the namespace
    Fd device;  // packets, non-blocking
};

/// Creates the host 10.77.0.`number`. Throws std::system_error, whose text names the call that failed.
Host make_host(int number, int mtu);

/// Sends SIGKILL to every process in these namespaces except this one.
void kill_processes_in(const std::vector<Host> &hosts);

}  // namespace netlab
