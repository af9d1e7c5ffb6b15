// The definition of what peers train, line by line, so that a refusal can name the first tensor that differs and both its values.
//
// Each line travels as the name of a tensor of the shared state, since the master compares those by position and quotes both
// names to the peer that it removes. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <pccl/pccl.h>

#include "train/layout.h"

namespace pccl::train {

/// A line for each parameter: name, number of elements, type.
std::vector<std::string> lines_of(const std::vector<Parameter> &parameters);

/// The names that stand for a definition in the shared state: one for each line, then one that ends them and holds a hash of
/// names and sizes of the parameters. Long lines are cut, and lines beyond a limit are left out: both are part of the hash.
std::vector<std::string> definition_names(const std::vector<std::string> &lines, const std::vector<Parameter> &parameters);

/// The reason for which the master removed this peer, with both values of what differs; `why` itself if it is about something
/// else. `mine`: the shared state that this peer offered.
std::string explain_refusal(const std::string &why, const std::vector<pcclTensorInfo_t> &mine);

}  // namespace pccl::train
