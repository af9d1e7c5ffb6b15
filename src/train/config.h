// A trainer's configuration: defaults, checks, and a description that peers compare to detect configurations that differ. Pure.
//
// The differences between methods are in the method table (train/method.h).
#pragma once

#include <cstddef>
#include <string>

#include <pccl/train.h>

#include "train/method.h"
#include "train/outcome.h"

namespace pccl::train {

/// Bounds of `struct_size` in a caller's structures. A value outside them means that the field was not set.
inline constexpr std::size_t kSmallestConfig = offsetof(pcclTrainerConfig_t, sync_every);
inline constexpr std::size_t kLargestStruct = 65536;

/// Sets all fields to the defaults of a method. False if the method does not exist.
bool set_defaults(pcclTrainerConfig_t &config, const pcclMethod_t &method);

/// The failure for a method that does not exist.
Outcome unknown_method(const pcclMethod_t &method);

/// Copies and checks a caller's configuration. Fields that are missing in the caller's version of the header get their defaults.
Outcome read_config(const pcclTrainerConfig_t *config, pcclTrainerConfig_t &out);

/// The settings that must be the same at all peers, as text of at most 1000 bytes.
std::string describe(const pcclTrainerConfig_t &config);

/// A warning about settings with which training is likely to diverge; "" if there is none.
std::string warning(const pcclTrainerConfig_t &config);

}  // namespace pccl::train
