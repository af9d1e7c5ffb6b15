// Copies memory that the program may have freed.
#pragma once

#include <cstddef>

namespace pccl::peer {

/// False: the bytes cannot be read. Where the system does not let a process ask (a seccomp filter can forbid it), they are read
/// as any memory is, and a fault ends the process.
[[nodiscard]] bool copy_carefully(std::byte *to, const std::byte *from, std::size_t bytes);

}  // namespace pccl::peer
