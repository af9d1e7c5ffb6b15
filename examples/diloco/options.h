// The command line of the trainer, checked.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include <pccl/train.h>

#include "mnist.h"

namespace diloco {

struct Options {
    std::string master = "127.0.0.1:48148";
    std::size_t shard_index = 0;  ///< from 0, less than shard_count
    std::size_t shard_count = 1;
    Split split = Split::kRandom;

    pcclTrainerConfig_t trainer{};  ///< `reduce` and `state_file` are set where it is used
    pcclReduceOptions_t reduce{};
    bool average_gradients = false;    ///< of every inner step: synchronous data-parallel training
    bool models_differ = false;        ///< from peer to peer: gossip
    bool own_start = false;            ///< they do from the start
    std::uint64_t distance_every = 0;  ///< rounds between two looks at how far apart they are; 0: only at the end
    std::string state_file;

    std::uint64_t expected_step = 0;  ///< rounds that the run has made when this peer joins, at least
    std::uint64_t rounds = 60;  ///< of the whole run, of trainer.sync_every inner steps each
    std::size_t batch = 64;
    std::size_t hidden = 128;  ///< units of a hidden layer
    std::size_t layers = 1;    ///< hidden ones
    float inner_rate = 3e-4F;
    std::uint64_t seed = 1;
    std::string data = "/usr/share/datasets/fashion-mnist";
    std::chrono::milliseconds step_time{0};  ///< an inner step takes no less

    std::uint64_t test_every = 1;       ///< rounds between two tests; 0: only at the end
    std::size_t test_images = 100'000;  ///< at most
    std::string load, save;             ///< checkpoints, "" for none
    std::uint64_t save_every = 0;       ///< rounds; 0: only at the end
    std::string report;                 ///< path; "-" is standard output, "" no report
};

/// Reads the command line. Prints help or what is wrong with it and gives no options: then the program ends with `exit_status`.
std::optional<Options> parse_options(int argc, char **argv, int &exit_status);

}  // namespace diloco
