// Resolves host names with the system's resolver. Blocks.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "base/address.h"
#include "base/time.h"

namespace pccl {

/// The default limit of one look-up. The system's resolver asks its second name server after 5 s.
inline constexpr Duration kResolveLimit = std::chrono::seconds(15);

/// Returns the address of a host name or literal: the first IPv4 address if there are several, otherwise the first. Blocks for at
/// most `limit`, or until `stop`, which is polled every few milliseconds, returns true. Error: pcclInvalidArgument with the name
/// and the reason.
Result<IpAddress> resolve(const std::string &host, Duration limit = kResolveLimit, const std::function<bool()> &stop = {});

}  // namespace pccl
