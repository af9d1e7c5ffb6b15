// A trainer's configuration: defaults, checks, and a description by which peers notice that theirs differ.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <pccl/train.h>

#include "train/layout.h"
#include "train/outcome.h"
#include "train/outer_state.h"

namespace pccl::train {

/// The defaults of a method. False if there is no such method.
bool set_defaults(pcclTrainerConfig_t &config, pcclMethod_t method);

/// A caller's configuration as a whole: fields that its header does not have are defaults. Checked.
Outcome read_config(const pcclTrainerConfig_t *config, pcclTrainerConfig_t &out);

/// One step behind: averages are applied an outer step after they were begun.
bool is_delayed(pcclMethod_t method);

/// Peers push models to one another; there is no average of all.
bool is_gossip(pcclMethod_t method);

Buffers buffers_of(const pcclTrainerConfig_t &config);

/// The settings that must be the same at all peers, as text of at most 1000 bytes.
std::string describe(const pcclTrainerConfig_t &config);

/// A warning about settings with which training is likely to diverge; "" if there is nothing to say.
std::string warning(const pcclTrainerConfig_t &config);

}  // namespace pccl::train
