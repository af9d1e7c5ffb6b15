// Effects that the master and a peer have in common.
#pragma once

#include <string>

#include "base/log.h"

namespace pccl::protocol {

/// The shell writes `text` to the log.
struct Log {
    LogLevel level;
    std::string text;
};

}  // namespace pccl::protocol
