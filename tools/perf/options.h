// The options of pccl-perf.
#pragma once

#include "common/elements.h"

#include <pccl.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pccl::perf {

/// The collective to measure. `both`: a reduce-scatter followed by an all-gather, which together equal an all-reduce.
enum class Collective { all_reduce, reduce_scatter, all_gather, both };
const char *name_of(Collective collective);

struct Options {
    std::size_t bytes_first = 1024;
    std::size_t bytes_last = std::size_t{64} << 20;
    double factor = 4;
    int iterations = 20;
    int warm_up = -1;  ///< -1: until the times are stable
    int peers = 2;
    std::string master;  ///< empty: a separate run on this machine
    int index = -1;      ///< -1: agree on it with the other peers
    std::vector<pcclDataType_t> types = {pcclFloat};
    std::vector<pcclRedOp_t> ops = {pcclSum};
    tools::Packing packing;
    bool error_feedback = false;
    std::uint32_t lanes = 0;
    std::string congestion;
    int compression = 0;
    pcclReduceAlgorithm_t algorithm = pcclAlgorithmAuto;
    pcclLossPolicy_t on_peer_loss = pcclLossPolicyRetry;
    Collective collective = Collective::all_reduce;
    int concurrent = 1;
    bool check = true;
    bool in_place = false;
    bool optimize = false;
    bool memory = false;  ///< print the memory column
    int join_timeout_s = 60;
    std::string json_file;
    std::string plot_file;

    bool local() const { return master.empty(); }
    /// Buffer sizes to measure, ascending.
    std::vector<std::size_t> sizes() const;
};

/// Returns nullopt and sets `exit_code` if the program must end (--help, --version, or an error, which was printed on standard
/// error).
std::optional<Options> parse_options(int argc, char **argv, int &exit_code);

/// "4K", "1.5M", "256M", "1G", with or without a final "B" or "iB"; powers of 1024. nullopt if it is not a size.
std::optional<std::size_t> parse_size(const std::string &text);

}  // namespace pccl::perf
