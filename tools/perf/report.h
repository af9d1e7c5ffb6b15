// Prints the table on standard output, each row as soon as it is measured, and writes the JSON file.
#pragma once

#include "perf/measurement.h"
#include "perf/options.h"

#include <string>
#include <vector>

namespace pccl::perf {

struct Row {
    std::size_t bytes = 0;
    std::size_t count = 0;
    pcclDataType_t type = pcclFloat;
    pcclRedOp_t op = pcclSum;
    double time_us = 0;
    double algbw_gbs = 0;
    double busbw_gbs = 0;
    int warm_up = 0;                   ///< iterations before the timed ones
    std::vector<double> cpu_s;         ///< processor time of one iteration, for each peer
    double cpu_s_per_gb = 0;           ///< processor time of all peers together, for 10^9 bytes of one peer's send buffers
    std::vector<double> memory_bytes;  ///< for each peer its peak beyond the buffers and the program; NaN if unknown
    Iteration iteration;               ///< the last one of this peer
    std::uint64_t wrong = 0;           ///< wrong elements at all peers together
    double relative_error = 0;         ///< the largest of all peers
    bool checked = false;
};

class Report {
public:
    /// Prints nothing and writes nothing if not `enabled` (peers other than the first).
    Report(const Options &options, bool enabled) : options_(options), enabled_(enabled) {}

    void begin();
    void add(const Row &row);
    /// Writes the JSON file and the plot if they were requested. Returns false and prints the reason if one cannot be written.
    bool end();

private:
    const Options &options_;
    bool enabled_;
    std::vector<Row> rows_;

    std::uint64_t wrong() const;
    bool write_json(const std::string &path) const;
    bool draw() const;
    bool quantized() const { return !options_.packing.none(); }
};

}  // namespace pccl::perf
