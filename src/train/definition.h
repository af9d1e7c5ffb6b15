// The definition of the model that peers train, line by line, so that a refusal can name the first tensor that differs and both
// values.
//
// Each line is sent as the name of a tensor of the shared state. The master compares these names by position and quotes both
// names to a peer that it removes. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <pccl/pccl.h>

#include "train/layout.h"

namespace pccl::train {

/// A line for each parameter: name, number of elements, type.
std::vector<std::string> lines_of(const std::vector<Parameter> &parameters);

/// The tensor names that represent a definition in the shared state: one for each line, then a last one that holds a hash of
/// names and sizes of the parameters. Long lines are cut, and lines beyond a limit are left out; the hash covers both.
std::vector<std::string> definition_names(const std::vector<std::string> &lines, const std::vector<Parameter> &parameters);

/// The reason why the master removed this peer, with both values of the line that differs. Returns `why` unchanged if its cause
/// is another. `mine` is the shared state that this peer offered.
std::string explain_refusal(const std::string &why, const std::vector<pcclTensorInfo_t> &mine);

}  // namespace pccl::train
