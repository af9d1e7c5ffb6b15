// Connections that this host makes to itself: the port of a server that is away must stay free for its return.
//
// Where nothing listens at an address of this host, and its port is one that the kernel gives to outgoing connections, an attempt
// to connect may be given that very port as its source. It then connects to itself (TCP's simultaneous open), and holds the port.
#pragma once

#include "base/address.h"
#include "base/fd.h"

namespace pccl {

/// Before connect(): binds the socket to another port than the target's, where the two could be the same, and lets a server
/// listen on whatever port the connection uses. May replace the socket. Failures are left to connect() to report.
void keep_off_target_port(Fd &socket, const SocketAddress &target);

/// Whether the connected socket is its own other end.
bool is_connected_to_itself(int socket);

/// Makes close() end the connection at once, without TIME_WAIT, by a reset.
void reset_on_close(int socket);

}  // namespace pccl
