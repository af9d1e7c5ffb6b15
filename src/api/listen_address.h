// Parses the address on which a master listens: "host:port", "[v6]:port", "[v6%zone]:port", ":port" or "port".
#pragma once

#include <functional>
#include <string>

#include "base/address.h"
#include "base/resolve.h"

namespace pccl::api {

/// The default host is 0.0.0.0 and the default port 48148; port 0 stays 0. Host names are resolved, which blocks as resolve()
/// does. An error is pcclInvalidArgument and quotes the text.
Result<SocketAddress> parse_listen_address(const std::string &text, const std::function<bool()> &stop = {});

}  // namespace pccl::api
