// Outgoing connections to this host: the port of an absent server must stay free for its return.
//
// If nothing listens at an address of this host, and its port is in the kernel's range for outgoing connections, the kernel may
// choose that same port as the source of an attempt to connect. The socket then connects to itself (TCP's simultaneous open), and
// occupies the port.
#pragma once

#include "base/address.h"
#include "base/fd.h"

namespace pccl {

/// Call before connect(). Binds the socket to another port than the target's if the two could be equal, and allows a server to
/// listen on the port that the connection uses. May replace the socket. Failures are reported by connect().
void keep_off_target_port(Fd &socket, const SocketAddress &target);

/// Whether the socket is connected to itself.
bool is_connected_to_itself(int socket);

/// Makes close() reset the connection, without TIME_WAIT.
void reset_on_close(int socket);

}  // namespace pccl
