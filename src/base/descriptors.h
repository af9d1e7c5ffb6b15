// Sockets that stay with this process: no program that it starts inherits them, and no fork of it keeps them open.
//
// A socket that another process holds open does not end with this one: its death would be noticed late, and its port would stay
// taken. So every stream socket of the library is made here: close-on-exec from the start, and closed in the child of a fork. Any
// thread.
#pragma once

#include <sys/socket.h>

#include "base/fd.h"

namespace pccl {

/// A non-blocking TCP socket; without one: errno says why.
Fd open_stream(bool v6);

/// The next connection of a non-blocking listener, non-blocking itself; without one: errno says why. `from` and `size` as for
/// accept().
Fd accept_stream(int listener, sockaddr *from = nullptr, socklen_t *size = nullptr);

/// Opens /dev/null at those of the descriptors 0, 1 and 2 that are closed. A socket with one of these numbers would be taken for
/// a standard stream: log lines would be written to it.
void reserve_standard_descriptors();

/// The number of forks between the process that loaded the library and this one. An object that remembers another number belongs
/// to a parent process: its threads are not here, and its sockets are closed.
int fork_generation();

}  // namespace pccl
