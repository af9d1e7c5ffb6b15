// Table, JSON and plot.
#include "perf/report.h"

#include "common/child.h"
#include "common/elements.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

namespace pccl::perf {

namespace {

double most(const std::vector<double> &values) { return *std::ranges::max_element(values); }

}  // namespace

void Report::begin() {
    if (!enabled_) return;
    const std::string warm_up = options_.warm_up < 0 ? "warm-up" : std::to_string(options_.warm_up);
    if (options_.collective != Collective::all_reduce) std::printf("# %s\n", name_of(options_.collective));
    std::printf("# pccl-perf: %d peers%s, lanes %s, quantization %s, %d concurrent, %s, %d iterations after %s\n", options_.peers,
                options_.index >= 0 ? " on this machine" : "",
                options_.lanes == 0 ? "auto" : std::to_string(options_.lanes).c_str(), tools::name_of(options_.packing).c_str(),
                options_.concurrent, options_.in_place ? "in place" : "out of place", options_.iterations, warm_up.c_str());
    std::printf("# %11s %11s %9s %5s %12s %9s %9s %8s", "size", "count", "type", "op", "time", "algbw", "busbw", "cpu");
    if (options_.memory) std::printf(" %8s", "mem");
    if (quantized()) std::printf(" %9s", "err");
    std::printf(" %9s %5s %5s %7s\n", "algorithm", "lanes", "warm", "#wrong");
    std::printf("# %11s %11s %9s %5s %12s %9s %9s %8s", "(B)", "(elements)", "", "", "(us, median)", "(GB/s)", "(GB/s)",
                "(s/GB)");
    if (options_.memory) std::printf(" %8s", "(MiB)");
    std::printf("\n");
    std::fflush(stdout);
}

void Report::add(const Row &row) {
    rows_.push_back(row);
    if (!enabled_) return;
    std::printf("  %11zu %11zu %9s %5s %12.1f %9.3f %9.3f %8.3f", row.bytes, row.count, tools::name_of(row.type),
                tools::name_of(row.op), row.time_us, row.algbw_gbs, row.busbw_gbs, row.cpu_s_per_gb);
    const double memory = most(row.memory_bytes);
    if (options_.memory && std::isfinite(memory)) std::printf(" %8.1f", memory / 0x1p20);
    if (options_.memory && !std::isfinite(memory)) std::printf(" %8s", "-");
    if (quantized() && row.checked) std::printf(" %9.2e", row.relative_error);
    if (quantized() && !row.checked) std::printf(" %9s", "-");
    std::printf(" %9s %5u %5d %7s\n", tools::name_of(row.iteration.algorithm), row.iteration.lanes, row.warm_up,
                row.checked ? std::to_string(row.wrong).c_str() : "-");
    std::fflush(stdout);
}

std::uint64_t Report::wrong() const {
    std::uint64_t total = 0;
    for (const Row &row : rows_)
        total += row.wrong;
    return total;
}

bool Report::end() {
    if (!enabled_) return true;
    double best = 0;
    for (const Row &row : rows_)
        best = std::max(best, row.busbw_gbs);
    std::printf("# best bus bandwidth %.3f GB/s; wrong elements: %s\n", best,
                options_.check ? std::to_string(wrong()).c_str() : "not checked");
    std::fflush(stdout);
    if (!options_.json_file.empty() && !write_json(options_.json_file)) return false;
    return options_.plot_file.empty() || draw();
}

bool Report::write_json(const std::string &path) const {
    nlohmann::ordered_json json;
    json["peers"] = options_.peers;
    json["collective"] = name_of(options_.collective);
    json["lanes"] = options_.lanes;
    json["algorithm"] = tools::name_of(options_.algorithm);
    json["concurrent"] = options_.concurrent;
    json["quantization"] = tools::name_of(options_.packing);
    json["in_place"] = options_.in_place;
    json["iterations"] = options_.iterations;
    json["wrong"] = wrong();
    json["rows"] = nlohmann::ordered_json::array();
    for (const Row &row : rows_) {
        nlohmann::ordered_json entry = {{"bytes", row.bytes},
                                        {"count", row.count},
                                        {"type", tools::name_of(row.type)},
                                        {"op", tools::name_of(row.op)},
                                        {"time_us", row.time_us},
                                        {"algbw_gbs", row.algbw_gbs},
                                        {"busbw_gbs", row.busbw_gbs},
                                        {"tx_bytes", row.iteration.tx_bytes},
                                        {"algorithm", tools::name_of(row.iteration.algorithm)},
                                        {"lanes", row.iteration.lanes},
                                        {"chunk_bytes", row.iteration.chunk_bytes},
                                        {"warm_up", row.warm_up},
                                        {"cpu_s", row.cpu_s},
                                        {"cpu_s_per_gb", row.cpu_s_per_gb},
                                        {"memory_bytes", row.memory_bytes}};
        if (row.checked) {
            entry["wrong"] = row.wrong;
            entry["relative_error"] = row.relative_error;
        }
        json["rows"].push_back(std::move(entry));
    }
    std::ofstream file(path);
    file << json.dump(2) << '\n';
    file.close();
    if (!file) std::fprintf(stderr, "pccl-perf: cannot write %s. Check that the folder exists and is writable\n", path.c_str());
    return static_cast<bool>(file);
}

/// Runs pccl-perf-plot, which is installed in the same directory.
bool Report::draw() const {
    std::string results = options_.json_file;
    if (results.empty()) {
        results = (std::filesystem::temp_directory_path() / ("pccl-perf-" + std::to_string(::getpid()) + ".json")).string();
        if (!write_json(results)) return false;
    }
    const std::string label = std::to_string(options_.peers) + " peers=" + results;
    const auto program = std::filesystem::path(tools::self_path()).parent_path() / "pccl-perf-plot";
    const int status = *tools::Child::spawn({program.string(), label, "-o", options_.plot_file}).wait();
    if (options_.json_file.empty()) std::filesystem::remove(results);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    std::fprintf(stderr, "pccl-perf: no plot: %s %s; it needs python3\n", program.c_str(),
                 tools::describe_status(status).c_str());
    return false;
}

}  // namespace pccl::perf
