// Host names to addresses, by the system's resolver.
#pragma once

#include <string>

#include "base/address.h"

namespace pccl {

/// The address of a host name or literal; of several, the first IPv4 one, else the first. May block for as long as the resolver
/// takes. Error: pcclInvalidArgument with the name and the resolver's reason.
Result<IpAddress> resolve(const std::string &host);

}  // namespace pccl
