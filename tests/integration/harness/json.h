// The JSON type of the messages between a test and its peers.
#pragma once

#include <nlohmann/json.hpp>

namespace pccl::itest {
using Json = nlohmann::json;
}
