// Sockets that belong to this process only: programs that it starts do not inherit them, and forks of it do not keep them open.
//
// If another process held a socket open, the connection would not end with this process: its death would be detected late, and
// its port would stay in use. So every stream socket of the library is created here: it is close-on-exec, and closed in the child
// of a fork. Any thread.
#pragma once

#include <sys/socket.h>

#include "base/fd.h"

namespace pccl {

/// Creates a non-blocking TCP socket. Not open: errno is set.
Fd open_stream(bool v6);

/// Accepts the next connection of a non-blocking listener, as a non-blocking socket. Not open: errno is set. `from` and `size`
/// are passed to accept().
Fd accept_stream(int listener, sockaddr *from = nullptr, socklen_t *size = nullptr);

/// Opens /dev/null as each of the descriptors 0, 1 and 2 that is closed. A socket with one of these numbers would be used as a
/// standard stream: log lines would be written to it.
void reserve_standard_descriptors();

/// The number of forks between the process that loaded the library and this one. An object created under another number belongs
/// to a parent process: its threads do not exist here, and its sockets are closed.
int fork_generation();

}  // namespace pccl
