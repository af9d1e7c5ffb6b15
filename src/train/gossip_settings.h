// The settings of gossip and push-sum: the functions that their rows in the method table (train/method.h) refer to. Pure.
#pragma once

#include <string>

#include <pccl/train.h>

#include "train/outcome.h"

namespace pccl::train {

void set_gossip_defaults(pcclTrainerConfig_t &config);
void set_push_sum_defaults(pcclTrainerConfig_t &config);
Outcome check_gossip(const pcclTrainerConfig_t &config);
Outcome check_push_sum(const pcclTrainerConfig_t &config);
void describe_gossip(const pcclTrainerConfig_t &config, std::string &text);
void describe_push_sum(const pcclTrainerConfig_t &config, std::string &text);

}  // namespace pccl::train
