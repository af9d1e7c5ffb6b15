// The system calls of the master's sockets, as values and errors. No state; any thread.
#pragma once

#include <cstddef>

#include "base/address.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"

namespace pccl::master {

/// A non-blocking socket that listens on `address`; an unspecified IPv6 address takes IPv4 callers, too. An address whose last
/// user has ended can be taken at once. Error: pcclMasterConnectionFailed with the address, the system's reason, and what holds
/// the port.
Result<Fd> listen_on(const SocketAddress &address);

/// What a bound socket is bound to.
SocketAddress local_address(const Fd &socket);

/// A connection, non-blocking and without delay, and its other end; or why there is none (an errno).
struct Accepted {
    Fd socket;
    SocketAddress from;
    int error = 0;
};
Accepted accept_on(const Fd &listener);

/// Raises the soft limit of open files to the hard one. The limit that holds then.
std::size_t raise_file_limit();

/// 128 bits from the kernel.
Secret random_secret();

/// "Connection reset by peer": the system's phrase, thread-safe.
std::string error_text(int error);

}  // namespace pccl::master
