// Table and JSON.
#include "perf/report.h"

#include "common/elements.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>

namespace pccl::perf {

void Report::begin() {
    if (!enabled_) return;
    std::printf("# pccl-perf: %d peers%s, lanes %s, quantization %s, %d concurrent, %s, %d iterations after %d\n", options_.peers,
                options_.index >= 0 ? " on this machine" : "",
                options_.lanes == 0 ? "auto" : std::to_string(options_.lanes).c_str(),
                tools::name_of(options_.quantization).c_str(), options_.concurrent,
                options_.in_place ? "in place" : "out of place", options_.iterations, options_.warm_up);
    std::printf("# %12s %12s %9s %5s %12s %13s %13s", "size", "count", "type", "op", "time", "algbw", "busbw");
    if (quantized()) std::printf(" %10s", "err");
    std::printf(" %9s\n# %12s %12s %9s %5s %12s %13s %13s\n", "#wrong", "(B)", "(elements)", "", "", "(us, median)", "(GB/s)",
                "(GB/s)");
    std::fflush(stdout);
}

void Report::add(const Row &row) {
    rows_.push_back(row);
    if (!enabled_) return;
    std::printf("  %12zu %12zu %9s %5s %12.1f %13.3f %13.3f", row.bytes, row.count, tools::name_of(row.type),
                tools::name_of(row.op), row.time_us, row.algbw_gbs, row.busbw_gbs);
    if (quantized() && row.checked) std::printf(" %10.2e", row.relative_error);
    if (quantized() && !row.checked) std::printf(" %10s", "-");
    std::printf(" %9s\n", row.checked ? std::to_string(row.wrong).c_str() : "-");
    std::fflush(stdout);
}

bool Report::end() {
    if (!enabled_) return true;
    const std::uint64_t wrong = [&] {
        std::uint64_t total = 0;
        for (const Row &row : rows_)
            total += row.wrong;
        return total;
    }();
    double best = 0;
    for (const Row &row : rows_)
        best = std::max(best, row.busbw_gbs);
    std::printf("# best bus bandwidth %.3f GB/s; wrong elements: %s\n", best,
                options_.check ? std::to_string(wrong).c_str() : "not checked");
    std::fflush(stdout);
    if (options_.json_file.empty()) return true;

    nlohmann::ordered_json json;
    json["peers"] = options_.peers;
    json["lanes"] = options_.lanes;
    json["concurrent"] = options_.concurrent;
    json["quantization"] = tools::name_of(options_.quantization);
    json["in_place"] = options_.in_place;
    json["iterations"] = options_.iterations;
    json["warm_up"] = options_.warm_up;
    json["wrong"] = wrong;
    json["rows"] = nlohmann::ordered_json::array();
    for (const Row &row : rows_) {
        nlohmann::ordered_json entry = {
            {"bytes", row.bytes},           {"count", row.count},      {"type", tools::name_of(row.type)},
            {"op", tools::name_of(row.op)}, {"time_us", row.time_us},  {"algbw_gbs", row.algbw_gbs},
            {"busbw_gbs", row.busbw_gbs},   {"tx_bytes", row.tx_bytes}};
        if (row.checked) {
            entry["wrong"] = row.wrong;
            entry["relative_error"] = row.relative_error;
        }
        json["rows"].push_back(std::move(entry));
    }
    std::ofstream file(options_.json_file);
    file << json.dump(2) << '\n';
    file.close();
    if (!file)
        std::fprintf(stderr, "pccl-perf: cannot write %s; is the folder there and writable?\n", options_.json_file.c_str());
    return static_cast<bool>(file);
}

}  // namespace pccl::perf
