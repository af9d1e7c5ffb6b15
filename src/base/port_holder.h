// Finds the process that holds a TCP port of this host, for error texts. Reads /proc, which may hide processes of other users.
// Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace pccl {

/// "process 12 (python3) listens there", "a connection from A to B in TIME_WAIT holds it, for 60 s at most"; "" if nothing is
/// found.
std::string port_holder(std::uint16_t port);

}  // namespace pccl
