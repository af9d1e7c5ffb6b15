// The options of the trainer: reads and checks the command line.
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

    pcclTrainerConfig_t trainer{};  ///< without `reduce` and `state_file`, which the trainer's creation sets
    pcclReduceOptions_t reduce{};
    bool average_gradients = false;    ///< average the gradient of every inner step: synchronous data-parallel training
    bool models_differ = false;        ///< each peer has its own model: gossip
    bool own_start = false;            ///< each peer begins with its own model
    std::uint64_t distance_every = 0;  ///< rounds between two measurements of the distance between models; 0: only at the end
    std::string state_file;

    std::uint64_t expected_step = 0;  ///< smallest number of rounds that the run must have made when this peer joins
    std::uint64_t rounds = 60;        ///< rounds of the whole run, with trainer.sync_every inner steps each
    std::size_t batch = 64;
    std::size_t hidden = 128;  ///< units of a hidden layer
    std::size_t layers = 1;    ///< hidden layers
    float inner_rate = 3e-4F;
    std::uint64_t seed = 1;
    std::string data = "/usr/share/datasets/fashion-mnist";
    std::chrono::milliseconds step_time{0};  ///< shortest duration of an inner step

    std::uint64_t test_every = 1;       ///< rounds between two tests; 0: only at the end
    std::size_t test_images = 100'000;  ///< largest number of test images
    std::string load, save;             ///< checkpoints, "" for none
    std::uint64_t save_every = 0;       ///< rounds between two checkpoints; 0: only at the end
    std::string report;                 ///< path; "-" is standard output, "" no report
};

/// Reads the command line. Returns no options after printing the help or an error; the program must then end with `exit_status`.
std::optional<Options> parse_options(int argc, char **argv, int &exit_status);

}  // namespace diloco
