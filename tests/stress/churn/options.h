// Options of pccl-churn.
#pragma once

#include <cstdint>
#include <string>

namespace pccl::churn {

struct Options {
    double minutes = 1;
    int peers = 5;
    std::uint64_t seed = 0;
    bool master_process = false;
    std::uint32_t heartbeat_timeout_ms = 1500;
    int hang_s = 20;

    std::string trainer_master;         ///< set in a trainer's process: the master's address
    std::uint32_t master_limit_ms = 0;  ///< limit of a trainer's wait for a lost master; 0: the default
    int slot = -1;                      ///< number of a trainer
    bool serve_master = false;          ///< this process is the separate master
};

}  // namespace pccl::churn
