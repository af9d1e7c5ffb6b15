// The command line.
#include "perf/options.h"

#include "common/elements.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>

namespace pccl::perf {

namespace {

constexpr const char *kExamples = R"(
Examples:
  pccl-perf -t 4                               four peers on this machine, 1K to 64M, float sum
  pccl-perf -t 2 -b 4K -e 1G -f 2 -d bfloat16 -o avg
  pccl-perf -t 4 -b 16M -e 16M -q minmax:u8    quantized to 8 bits on the wire
  pccl-perf -t 3 -d all -o all -e 1M           every type and operator, checked
  pccl-perf --master 10.0.0.1:48148 --peers 8  one peer of a run on several machines; start it on each of the eight
  pccl-perf -t 2 --json old.json --plot old.svg, and later
  pccl-perf-plot old.json new.json -o both.svg  several runs in one plot

Columns: size is the bytes of one buffer, time the median of one iteration at the slowest peer, algbw = size * concurrent /
time, busbw = algbw * 2(n-1)/n (reduce-scatter or all-gather: algbw * (n-1)/n). busbw is the rate on each link and
can be compared between different numbers of peers. 1 GB = 10^9 bytes.
cpu is the processor time of all peers together, user and system, per GB of size * concurrent. algorithm is the algorithm that
the library used, and lanes the number of TCP connections to the next peer.
warm is the number of iterations before the timed ones. Without -w there are at least 3. They continue until at every peer the
median of the last three is within 5 % of the best so far, or none of the last five improved it by 5 %, but for at most 100
iterations or 60 s.
mem (--memory) is the peak memory of the peer that used most, without its buffers and without the memory that the program had
before it called the library. The JSON file has cpu for one iteration, and mem, for each peer.
#wrong counts elements whose error is larger than the type and operator allow. "err" is the relative L2 error of a quantized
result.
Exit status: 0 if all results were right, 1 if some were wrong, 2 if a call or a peer failed, 64 for an error in the command line.
)";
constexpr int kExitUsage = 64;

/// Option values as text from CLI11. `interpret` converts them to Options.
struct Texts {
    std::string first = "1K";
    std::string last = "64M";
    std::string type = "float";
    std::string op = "sum";
    std::string quantization = "none";
    std::string algorithm = "auto";
    std::string on_peer_loss = "retry";
    std::string collective = "all-reduce";
    int check = 1;
};

template <typename T, typename All, typename Named>
bool interpret_list(const char *what, const std::string &text, const All &all, Named named, std::vector<T> &out) {
    out.clear();
    if (text == "all") {
        out.assign(all.begin(), all.end());
        return true;
    }
    std::string rest = text;
    while (!rest.empty()) {
        const std::size_t comma = rest.find(',');
        const std::string word = rest.substr(0, comma);
        const auto value = named(word);
        if (!value) {
            std::cerr << "pccl-perf: unknown " << what << " '" << word << "'. Use one of: all";
            for (T known : all)
                std::cerr << ' ' << tools::name_of(known);
            std::cerr << '\n';
            return false;
        }
        out.push_back(*value);
        rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    }
    return !out.empty();
}

bool interpret_size(const char *option, const std::string &text, std::size_t &out) {
    const auto size = parse_size(text);
    if (!size || *size == 0) {
        std::cerr << "pccl-perf: " << option << " '" << text << "' is not a size. Write for example 4K, 256M or 1G\n";
        return false;
    }
    out = *size;
    return true;
}

bool interpret_collective(const Texts &texts, Options &options) {
    constexpr Collective kAll[] = {Collective::all_reduce, Collective::reduce_scatter, Collective::all_gather, Collective::both};
    const auto found = std::ranges::find_if(kAll, [&](Collective one) { return texts.collective == name_of(one); });
    if (found == std::end(kAll)) {
        std::cerr << "pccl-perf: unknown --collective '" << texts.collective
                  << "'. Use all-reduce, reduce-scatter, all-gather or both\n";
        return false;
    }
    options.collective = *found;
    if (*found == Collective::all_reduce) return true;
    if (options.on_peer_loss == pcclLossPolicyRepair)
        std::cerr << "pccl-perf: --on-peer-loss repair needs --collective all-reduce. Use --on-peer-loss retry\n";
    if (options.error_feedback && *found != Collective::reduce_scatter)
        std::cerr << "pccl-perf: --error-feedback needs --collective all-reduce or reduce-scatter. Leave it out\n";
    return options.on_peer_loss != pcclLossPolicyRepair && (!options.error_feedback || *found == Collective::reduce_scatter);
}

bool keep_only_floats(Options &options) {
    if (options.packing.none()) return true;
    std::erase_if(options.types, [](pcclDataType_t type) { return !tools::is_float(type); });
    if (options.types.empty()) std::cerr << "pccl-perf: only floating-point types can be quantized (-q). Choose one with -d\n";
    return !options.types.empty();
}

bool interpret(const Texts &texts, Options &options) {
    if (!interpret_size("-b", texts.first, options.bytes_first) || !interpret_size("-e", texts.last, options.bytes_last))
        return false;
    if (options.bytes_first > options.bytes_last) {
        std::cerr << "pccl-perf: the first size (-b " << texts.first << ") is larger than the last (-e " << texts.last
                  << "). Swap them\n";
        return false;
    }
    if (!interpret_list("type (-d)", texts.type, tools::kAllTypes, tools::type_named, options.types)) return false;
    if (!interpret_list("operator (-o)", texts.op, tools::kAllOps, tools::op_named, options.ops)) return false;
    const auto packing = tools::packing_named(texts.quantization);
    if (!packing) {
        std::cerr
            << "pccl-perf: unknown quantization (-q) '" << texts.quantization
            << "'. Use none; minmax or zps, a colon, and u8, i8, u16, i16, u4 or u2; or blockscale, a colon, i8, i4, u4 or u2, "
               "and optionally a colon and\n"
               "32, 64, 128, 256 or 512 elements to a block, and :pow2\n";
        return false;
    }
    options.packing = *packing;
    const auto algorithm = tools::algorithm_named(texts.algorithm);
    if (!algorithm) {
        std::cerr << "pccl-perf: unknown algorithm (-a) '" << texts.algorithm << "'. Use auto, ring, direct or one-hop\n";
        return false;
    }
    options.algorithm = *algorithm;
    const auto policy = tools::loss_policy_named(texts.on_peer_loss);
    if (!policy) {
        std::cerr << "pccl-perf: unknown --on-peer-loss '" << texts.on_peer_loss << "'. Use retry or repair\n";
        return false;
    }
    options.on_peer_loss = *policy;
    if (*policy == pcclLossPolicyRepair && std::ranges::any_of(options.ops, [](pcclRedOp_t op) { return op != pcclAvg; })) {
        std::cerr << "pccl-perf: --on-peer-loss repair needs an average. Choose -o avg\n";
        return false;
    }
    if (!interpret_collective(texts, options)) return false;
    options.check = texts.check != 0;
    return keep_only_floats(options);
}

std::string version() {
    int number = 0;
    static_cast<void>(pcclGetVersion(&number));
    return "pccl-perf " + std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
           std::to_string(number % 100);
}

}  // namespace

const char *name_of(Collective collective) {
    constexpr const char *kNames[] = {"all-reduce", "reduce-scatter", "all-gather", "both"};
    return kNames[static_cast<int>(collective)];
}

std::optional<std::size_t> parse_size(const std::string &text) {
    char *end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (end == text.c_str() || !(value >= 0)) return std::nullopt;
    std::string unit = end;
    if (unit.size() > 1 && unit.back() == 'B') unit.pop_back();
    if (unit.size() > 1 && unit.back() == 'i') unit.pop_back();
    double scale = 1;
    if (unit == "K" || unit == "k")
        scale = 0x1p10;
    else if (unit == "M" || unit == "m")
        scale = 0x1p20;
    else if (unit == "G" || unit == "g")
        scale = 0x1p30;
    else if (unit == "T" || unit == "t")
        scale = 0x1p40;
    else if (!unit.empty() && unit != "B")
        return std::nullopt;
    if (value * scale > 0x1p50) return std::nullopt;
    return static_cast<std::size_t>(value * scale);
}

std::vector<std::size_t> Options::sizes() const {
    std::vector<std::size_t> result;
    double size = static_cast<double>(bytes_first);
    while (size <= static_cast<double>(bytes_last)) {
        result.push_back(static_cast<std::size_t>(size));
        size = std::max(size * factor, size + 1);
    }
    return result;
}

std::optional<Options> parse_options(int argc, char **argv, int &exit_code) {
    Options options;
    Texts texts;
    CLI::App app{"Measures all-reduce, or its halves, between peers and checks its results.", "pccl-perf"};
    app.footer(kExamples);
    app.set_version_flag("--version", version());
    app.add_option("-b,--minbytes", texts.first, "first buffer size")->capture_default_str();
    app.add_option("-e,--maxbytes", texts.last, "last buffer size")->capture_default_str();
    app.add_option("-f,--stepfactor", options.factor, "factor from one size to the next")
        ->check(CLI::Range(1.01, 1e6))
        ->capture_default_str();
    app.add_option("-n,--iters", options.iterations, "timed iterations")->check(CLI::Range(1, 1000000))->capture_default_str();
    app.add_option("-w,--warmup", options.warm_up,
                   "exactly this many iterations before the timed ones; default: until times are stable")
        ->check(CLI::Range(0, 1000000));
    auto *local = app.add_option("-t,--local-peers", options.peers, "start this many peers, and a master, on this machine")
                      ->check(CLI::Range(2, 1024))
                      ->capture_default_str();
    auto *master = app.add_option("--master", options.master, "join the run of this master (host:port) as one peer");
    auto *peers = app.add_option("--peers", options.peers, "with --master: wait until the run has this many peers")
                      ->check(CLI::Range(2, 1024));
    peers->needs(master)->excludes(local);
    master->excludes(local)->needs(peers);
    app.add_option("-d,--datatype", texts.type, "element type, a list separated by commas, or all")->capture_default_str();
    app.add_option("-o,--op", texts.op, "sum, avg, prod, max, min, a list separated by commas, or all")->capture_default_str();
    app.add_option("-q,--quantize", texts.quantization,
                   "none, minmax:u8, zps:u8, minmax:u16, blockscale:i8, blockscale:u4:64, blockscale:u2 ...")
        ->capture_default_str();
    app.add_flag("--error-feedback", options.error_feedback,
                 "add the rounding error of quantization to the next iteration (sum and avg)");
    app.add_option("-a,--algorithm", texts.algorithm, "auto, ring, direct, one-hop")->capture_default_str();
    app.add_option("--collective", texts.collective,
                   "all-reduce, reduce-scatter, all-gather, or both: reduce-scatter followed by all-gather")
        ->capture_default_str();
    app.add_option("--on-peer-loss", texts.on_peer_loss, "what happens to an operation that loses a peer: retry, or repair (avg)")
        ->capture_default_str();
    app.add_option("--lanes", options.lanes, "TCP connections per link (0: the library chooses)");
    app.add_option("--congestion", options.congestion,
                   "congestion control of the lanes: cubic, bbr ... (default: chosen for each path)");
    app.add_option("--compression", options.compression, "compression of the data on the wire: auto, off, on (default: auto)")
        ->transform(CLI::Transformer(std::map<std::string, int>{{"auto", 0}, {"off", 1}, {"on", 2}}));
    app.add_option("--concurrent", options.concurrent, "operations in flight at the same time, each with its own buffers")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    app.add_option("-c,--check", texts.check, "check results (0 or 1)")->check(CLI::Range(0, 1))->capture_default_str();
    app.add_flag("--in-place", options.in_place, "the send buffer is the receive buffer");
    app.add_flag("--optimize", options.optimize, "first measure the bandwidth between peers and choose the ring");
    app.add_option("--join-timeout", options.join_timeout_s, "seconds to wait for all peers")->capture_default_str();
    app.add_flag("--memory", options.memory, "add a column with the memory used in addition to the buffers");
    app.add_option("--json", options.json_file, "also write the results to this file");
    app.add_option("--plot", options.plot_file, "plot bus bandwidth and time over size into this SVG file");
    app.add_option("--index", options.index, "this peer's number, given to the peers started here")->group("");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError &error) {
        exit_code = app.exit(error) == 0 ? 0 : kExitUsage;
        return std::nullopt;
    }
    if (!interpret(texts, options)) {
        exit_code = kExitUsage;
        return std::nullopt;
    }
    return options;
}

}  // namespace pccl::perf
