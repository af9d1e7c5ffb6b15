#include "options.h"

#include <charconv>
#include <map>
#include <string_view>
#include <utility>

#include <CLI/CLI.hpp>

namespace diloco {
namespace {

constexpr int kExitUsage = 64;
constexpr std::size_t kMaxShards = 10'000;

/// "2/4": the second of four. Throws CLI::ValidationError.
std::pair<std::size_t, std::size_t> parse_shard(const std::string &text) {
    std::size_t index = 0;
    std::size_t count = 0;
    const char *end = text.data() + text.size();
    const auto [slash, index_error] = std::from_chars(text.data(), end, index);
    if (index_error == std::errc{} && slash != end && *slash == '/') {
        const auto [rest, count_error] = std::from_chars(slash + 1, end, count);
        if (count_error == std::errc{} && rest == end && index >= 1 && index <= count && count <= kMaxShards) {
            return {index - 1, count};
        }
    }
    throw CLI::ValidationError("--shard", "expected i/n with 1 <= i <= n, for example 2/4, not '" + text + "'");
}

pcclQuantizationOptions_t parse_quantization(const std::string &name) {
    pcclQuantizationOptions_t quantization{};
    if (name != "none") {
        quantization.algorithm = pcclQuantMinMax;
        quantization.quantized_datatype = name == "u8" ? pcclUint8 : pcclUint16;
    }
    return quantization;
}

}  // namespace

std::optional<Options> parse_options(int argc, char **argv, int &exit_status) {
    CLI::App app(
        "Trains a classifier of Fashion-MNIST with DiLoCo: many inner steps on each peer, then one averaged outer step.\n"
        "Start a pccl-master, then one of these per peer. Peers may be killed and started at any time.\n",
        "diloco");
    app.get_formatter()->column_width(34);
    Options options;
    std::string shard = "1/1";
    std::string quantize = "none";
    const std::map<std::string, std::uint64_t> units{{"ms", 1}, {"s", 1000}, {"m", 60'000}};
    std::uint64_t poll_ms = 50;
    std::uint64_t join_timeout_ms = 30'000;

    app.add_option("--master", options.master, "Address of the master, host:port")->capture_default_str();
    app.add_option("--shard", shard, "Which part of the training data is this peer's: i/n, the i-th of n")->capture_default_str();
    app.add_option("--steps", options.outer_steps, "Outer steps of the whole run, counted over all peers together")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str();
    app.add_option("--inner", options.inner_steps, "Inner steps between two outer steps")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str();
    app.add_option("--batch", options.batch, "Images per inner step")->check(CLI::Range(1, 4096))->capture_default_str();
    app.add_option("--hidden", options.hidden, "Units in the hidden layer")->check(CLI::Range(1, 8192))->capture_default_str();
    app.add_option("--rate", options.inner_rate, "Learning rate of the inner AdamW at its highest")
        ->check(CLI::Range(0.0F, 1.0F))
        ->capture_default_str();
    app.add_option("--seed", options.seed, "Of the shards and the first parameters; the same at every peer")
        ->capture_default_str();
    app.add_option("--data", options.data, "Directory with Fashion-MNIST (Debian package dataset-fashion-mnist)")
        ->capture_default_str();
    app.add_option("--quantize", quantize, "Pack the pseudo-gradient on the wire: none, u8 or u16")
        ->check(CLI::IsMember({"none", "u8", "u16"}))
        ->capture_default_str();
    app.add_flag("--optimize-topology", options.optimize_topology, "Look for the best ring whenever the world has grown");
    app.add_option("--poll", poll_ms, "Pause while this peer is alone, e.g. 50ms")
        ->transform(CLI::AsNumberWithUnit(units, CLI::AsNumberWithUnit::UNIT_REQUIRED))
        ->default_str("50ms");
    app.add_option("--join-timeout", join_timeout_ms, "How long to try to reach the master, e.g. 30s")
        ->transform(CLI::AsNumberWithUnit(units, CLI::AsNumberWithUnit::UNIT_REQUIRED))
        ->default_str("30s");
    app.add_option("--report", options.report, "File for one JSON line per outer step; - is standard output");
    app.footer(
        "Exit status: 0 if training ended and all peers hold the same bits, 1 if not, 64 for a mistake in the command line.");

    try {
        app.parse(argc, argv);
        std::tie(options.shard_index, options.shard_count) = parse_shard(shard);
        options.quantization = parse_quantization(quantize);
    } catch (const CLI::ParseError &error) {
        exit_status = app.exit(error) == 0 ? 0 : kExitUsage;
        return std::nullopt;
    }
    options.poll = std::chrono::milliseconds(poll_ms);
    options.join_timeout = std::chrono::milliseconds(join_timeout_ms);
    return options;
}

}  // namespace diloco
