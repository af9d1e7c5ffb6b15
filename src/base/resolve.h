// Host names to addresses, by the system's resolver, waited for.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "base/address.h"
#include "base/time.h"

namespace pccl {

/// How long a name is waited for where the caller has set no limit: a system's resolver asks its second name server after 5 s.
inline constexpr Duration kResolveLimit = std::chrono::seconds(15);

/// The address of a host name or literal; of several, the first IPv4 one, else the first. Blocks for at most `limit`, and less
/// where `stop`, which is asked every few milliseconds, says so. Error: pcclInvalidArgument with the name and the reason.
Result<IpAddress> resolve(const std::string &host, Duration limit = kResolveLimit, const std::function<bool()> &stop = {});

}  // namespace pccl
