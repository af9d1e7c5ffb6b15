// The network interfaces of this host. Any thread.
#pragma once

#include <cstdint>

#include "base/address.h"

namespace pccl {

/// The index of the interface that has this address; 0 if none has.
std::uint32_t interface_of(const IpAddress &ip);

/// A loopback address, or an address of one of the interfaces.
bool is_of_this_host(const IpAddress &ip);

/// The index of the interface as its zone for link-local addresses of other hosts: 0 for the loopback interface.
std::uint32_t zone_of_interface(std::uint32_t index);

}  // namespace pccl
