// The network interfaces of this host. Any thread.
#pragma once

#include <cstdint>

#include "base/address.h"

namespace pccl {

/// Returns the index of the interface with this address, or 0.
std::uint32_t interface_of(const IpAddress &ip);

/// Returns whether this is a loopback address or the address of an interface.
bool is_of_this_host(const IpAddress &ip);

/// Returns the interface as a zone for link-local addresses of other hosts: 0 for the loopback interface.
std::uint32_t zone_of_interface(std::uint32_t index);

}  // namespace pccl
