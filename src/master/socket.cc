// See socket.h.
#include "master/socket.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/port_holder.h"

namespace pccl::master {
namespace {

constexpr int kBacklog = 4096;  // the kernel lowers it to its limit

struct NativeAddress {
    sockaddr_storage storage{};
    socklen_t size = 0;
};

NativeAddress to_native(const SocketAddress &address) {
    NativeAddress out;
    if (address.ip.v6) {
        sockaddr_in6 v6{};
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(address.port);
        v6.sin6_scope_id = address.ip.zone;
        std::copy_n(address.ip.octets.begin(), 16, v6.sin6_addr.s6_addr);
        out.size = sizeof v6;
        std::memcpy(&out.storage, &v6, sizeof v6);
    } else {
        sockaddr_in v4{};
        v4.sin_family = AF_INET;
        v4.sin_port = htons(address.port);
        std::memcpy(&v4.sin_addr, address.ip.octets.data(), 4);
        out.size = sizeof v4;
        std::memcpy(&out.storage, &v4, sizeof v4);
    }
    return out;
}

/// Converts by way of the C form, which turns an IPv4-mapped IPv6 address into an IPv4 address. Without the zone, which is valid
/// on this host only.
SocketAddress from_native(const sockaddr_storage &storage) {
    ccoip_socket_address_t out{};
    if (storage.ss_family == AF_INET6) {
        sockaddr_in6 v6;
        std::memcpy(&v6, &storage, sizeof v6);
        out.inet.protocol = inetIPv6;
        out.port = ntohs(v6.sin6_port);
        std::copy_n(v6.sin6_addr.s6_addr, 16, out.inet.ipv6.data);
    } else if (storage.ss_family == AF_INET) {
        sockaddr_in v4;
        std::memcpy(&v4, &storage, sizeof v4);
        out.port = ntohs(v4.sin_port);
        std::memcpy(out.inet.ipv4.data, &v4.sin_addr, 4);
    }
    return from_c(out);
}

std::string advice(int error, const SocketAddress &address) {
    if (error == EINVAL && address.ip.link_local() && address.ip.zone == 0)
        return ". A link-local address needs its interface, for example [fe80::1%eth0]:48148";
    switch (error) {
    case EADDRINUSE: {
        const std::string holder = port_holder(address.port);
        return (holder.empty() ? ": another program listens there" : ": " + holder) + "; end it or choose another port";
    }
    case EADDRNOTAVAIL: return ": no interface of this machine has this address; 0.0.0.0 listens on all";
    case EACCES: return ": ports below 1024 need privileges; choose a higher one";
    case EAFNOSUPPORT: return ": this machine does not support this address family; 0.0.0.0 listens on all IPv4 addresses";
    default: return "";
    }
}

}  // namespace

Result<Fd> listen_on(const SocketAddress &address) {
    const auto failed = [&] {
        const int error = errno;
        return Error{pcclMasterConnectionFailed,
                     "cannot listen on " + to_string(address) + ": " + error_text(error) + advice(error, address)};
    };
    Fd socket = open_stream(address.ip.v6);
    if (!socket) return failed();
    const int on = 1;
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return failed();
    if (address.ip.v6) {
        const int only_v6 = address.ip.unspecified() ? 0 : 1;
        if (::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6) != 0) return failed();
    }
    const NativeAddress native = to_native(address);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr *>(&native.storage), native.size) != 0) return failed();
    if (::listen(socket.get(), kBacklog) != 0) return failed();
    return socket;
}

SocketAddress local_address(const Fd &socket) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    if (::getsockname(socket.get(), reinterpret_cast<sockaddr *>(&storage), &size) != 0) return {};
    SocketAddress address = from_native(storage);
    return address;
}

Accepted accept_on(const Fd &listener) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    Accepted out;
    out.socket = accept_stream(listener.get(), reinterpret_cast<sockaddr *>(&storage), &size);
    if (!out.socket) {
        out.error = errno;
        return out;
    }
    out.from = from_native(storage);
    const int on = 1;
    ::setsockopt(out.socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // a failure does no harm
    return out;
}

std::size_t raise_file_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        rlimit raised = limit;
        raised.rlim_cur = limit.rlim_max;
        if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    return static_cast<std::size_t>(limit.rlim_cur);
}

Secret random_secret() {
    Secret secret{};
    while (::getrandom(secret.data(), secret.size(), 0) != static_cast<ssize_t>(secret.size())) {
        if (errno != EINTR) std::abort();  // the kernel has no getrandom: guessable secrets would be worse than no master
    }
    return secret;
}

std::string error_text(int error) { return std::system_category().message(error); }

}  // namespace pccl::master
