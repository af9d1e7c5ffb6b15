// A host of the lab: a network namespace without a name, with a loopback and one TUN device `wan0`. The namespace lives as long
// as this object or a process in it, so that nothing is left behind however the lab ends.
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

/// Makes the host 10.77.0.`number`. Throws std::system_error, whose text names what was not permitted.
Host make_host(int number, int mtu);

/// SIGKILL to every process inside these namespaces but our own.
void kill_processes_in(const std::vector<Host> &hosts);

}  // namespace netlab
