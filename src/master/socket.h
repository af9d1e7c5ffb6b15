// The system calls of the master's sockets, with results as values. Stateless; any thread.
#pragma once

#include <cstddef>

#include "base/address.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"

namespace pccl::master {

/// A non-blocking socket that listens on `address`; an unspecified IPv6 address accepts IPv4 connections, too. The address can be
/// bound while connections of an earlier process are in TIME_WAIT. Error: pcclMasterConnectionFailed with the address, the
/// system's reason, and the process that holds the port.
Result<Fd> listen_on(const SocketAddress &address);

/// The address to which a socket is bound.
SocketAddress local_address(const Fd &socket);

/// A connection, non-blocking and with TCP_NODELAY, and the address of its other end; or the errno if there is none.
struct Accepted {
    Fd socket;
    SocketAddress from;
    int error = 0;
};
Accepted accept_on(const Fd &listener);

/// Raises the soft limit of open files to the hard one. Returns the resulting limit.
std::size_t raise_file_limit();

/// 128 bits from the kernel.
Secret random_secret();

/// The system's text for an errno, for example "Connection reset by peer". Thread-safe.
std::string error_text(int error);

}  // namespace pccl::master
