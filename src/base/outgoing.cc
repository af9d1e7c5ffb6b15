// See outgoing.h.
#include "base/outgoing.h"

#include <cstring>

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/descriptors.h"
#include "base/interfaces.h"
#include "base/read_file.h"

namespace pccl {
namespace {

/// Whether the port is in the kernel's range for outgoing connections.
bool is_ephemeral(std::uint16_t port) {
    const auto range = numbers_in("/proc/sys/net/ipv4/ip_local_port_range");
    if (range.size() < 2) return true;
    return port >= range[0] && port <= range[1];
}

bool bind_any_port(int socket, bool v6) {
    if (v6) {
        sockaddr_in6 any{};
        any.sin6_family = AF_INET6;
        return ::bind(socket, reinterpret_cast<const sockaddr *>(&any), sizeof any) == 0;
    }
    sockaddr_in any{};
    any.sin_family = AF_INET;
    return ::bind(socket, reinterpret_cast<const sockaddr *>(&any), sizeof any) == 0;
}

std::uint16_t port_of(const sockaddr_storage &address) {
    // The port has the same place in both families.
    sockaddr_in v4;
    std::memcpy(&v4, &address, sizeof v4);
    return ntohs(v4.sin_port);
}

std::uint16_t local_port(int socket) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    return ::getsockname(socket, reinterpret_cast<sockaddr *>(&address), &size) == 0 ? port_of(address) : 0;
}

/// A failure does no harm: a server may then have to wait for the end of TIME_WAIT.
void share_port(int socket) {
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
}

}  // namespace

void keep_off_target_port(Fd &socket, const SocketAddress &target) {
    share_port(socket.get());
    if (!is_ephemeral(target.port) || !is_of_this_host(target.ip)) return;
    if (!bind_any_port(socket.get(), target.ip.v6) || local_port(socket.get()) != target.port) return;
    // The kernel chose the target's port. While this socket holds it, another socket gets another port.
    Fd other = open_stream(target.ip.v6);
    if (!other) return;
    share_port(other.get());
    if (bind_any_port(other.get(), target.ip.v6)) socket = std::move(other);
}

bool is_connected_to_itself(int socket) {
    sockaddr_storage here{}, there{};
    socklen_t here_size = sizeof here, there_size = sizeof there;
    if (::getsockname(socket, reinterpret_cast<sockaddr *>(&here), &here_size) != 0) return false;
    if (::getpeername(socket, reinterpret_cast<sockaddr *>(&there), &there_size) != 0) return false;
    return here_size == there_size && std::memcmp(&here, &there, here_size) == 0;
}

void reset_on_close(int socket) {
    const linger at_once{1, 0};
    ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

}  // namespace pccl
