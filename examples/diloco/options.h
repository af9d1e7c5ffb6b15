// The command line of the trainer, checked.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include <pccl/pccl.h>

namespace diloco {

struct Options {
    std::string master = "127.0.0.1:48148";
    std::size_t shard_index = 0;  ///< from 0, less than shard_count
    std::size_t shard_count = 1;

    std::uint64_t outer_steps = 60;
    std::size_t inner_steps = 100;  ///< per outer step
    std::size_t batch = 64;
    std::size_t hidden = 128;  ///< units of the hidden layer
    float inner_rate = 3e-4F;
    std::uint64_t seed = 1;
    std::string data = "/usr/share/datasets/fashion-mnist";

    pcclQuantizationOptions_t quantization{};
    bool optimize_topology = false;
    std::chrono::milliseconds poll{50};             ///< pause between looks at the world while alone in it
    std::chrono::milliseconds join_timeout{30000};  ///< for reaching the master, at the start and after losing it
    std::string report;                             ///< path; "-" is standard output, "" no report
};

/// Reads the command line. Prints help or what is wrong with it and gives no options: then the program ends with `exit_status`.
std::optional<Options> parse_options(int argc, char **argv, int &exit_status);

}  // namespace diloco
