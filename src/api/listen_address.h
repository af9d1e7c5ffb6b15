// Where a master is told to listen: "host:port", "[v6]:port", "[v6%zone]:port", ":port" or "port".
#pragma once

#include <functional>
#include <string>

#include "base/address.h"
#include "base/resolve.h"

namespace pccl::api {

/// Without a host: 0.0.0.0. Without a port: 48148; port 0 stays 0. Host names are resolved, which blocks as resolve() does.
/// Error: pcclInvalidArgument with the text quoted.
Result<SocketAddress> parse_listen_address(const std::string &text, const std::function<bool()> &stop = {});

}  // namespace pccl::api
