// Copies memory that the program may have freed.
#pragma once

#include <cstddef>

namespace pccl::peer {

/// Returns false if the bytes cannot be read. On a system that forbids process_vm_readv (a seccomp filter can), the bytes are
/// read directly, and freed memory ends the process.
[[nodiscard]] bool copy_carefully(std::byte *to, const std::byte *from, std::size_t bytes);

}  // namespace pccl::peer
