#include "options.h"

#include <charconv>
#include <map>
#include <stdexcept>
#include <utility>

#include <CLI/CLI.hpp>

namespace diloco {
namespace {

constexpr int kExitUsage = 64;
constexpr std::size_t kMaxShards = 10'000;

template <class T> using Names = std::map<std::string, T>;

struct Method {
    pcclMethod_t method;
    bool average_gradients;
};

// A further method of the library needs a line here and a line in the help below. Data-parallel training averages every gradient.
// Its trainer handles the membership and sends the state to newcomers, and its own averages change nothing.
const Names<Method> kMethods{{"diloco", {pcclMethodDiLoCo, false}},     {"async", {pcclMethodAsyncDiLoCo, false}},
                             {"eager", {pcclMethodEagerDiLoCo, false}}, {"streaming", {pcclMethodStreamingDiLoCo, false}},
                             {"co2", {pcclMethodCO2, false}},           {"gossip", {pcclMethodGossip, false}},
                             {"pushsum", {pcclMethodPushSum, false}},   {"ddp", {pcclMethodDiLoCo, true}},
                             {"local", {pcclMethodLocal, false}}};
const Names<pcclOuterOptimizer_t> kOptimizers{
    {"sgd", pcclOuterSgd}, {"heavy-ball", pcclOuterHeavyBall}, {"nesterov", pcclOuterNesterov}};
const Names<pcclNewcomers_t> kNewcomers{
    {"drain", pcclNewcomersDrain}, {"share", pcclNewcomersSharePending}, {"resync", pcclNewcomersResync}};
const Names<pcclFragments_t> kPatterns{
    {"strided", pcclFragmentsStrided}, {"sequential", pcclFragmentsSequential}, {"even", pcclFragmentsEven}};
const Names<pcclGraphKind_t> kGraphs{{"ring", pcclGraphRing},
                                     {"random", pcclGraphRandomRegular},
                                     {"exponential", pcclGraphExponential},
                                     {"barabasi-albert", pcclGraphBarabasiAlbert}};
const Names<pcclPartners_t> kPartners{{"all", pcclPartnersAll}, {"one", pcclPartnersOne}, {"next", pcclPartnersNext}};
const Names<pcclMerge_t> kMerges{
    {"available", pcclMergeAvailable}, {"after-all", pcclMergeAfterAll}, {"synchronous", pcclMergeSynchronous}};
const Names<pcclVariance_t> kVariances{{"of-received", pcclVarianceOfReceived},
                                       {"of-own", pcclVarianceOfOwn},
                                       {"weighted", pcclVarianceWeighted},
                                       {"none", pcclVarianceNone}};
const Names<pcclQuantizationOptions_t> kQuantizations{{"none", {}},
                                                      {"u8", {pcclUint8, pcclQuantMinMax}},
                                                      {"u16", {pcclUint16, pcclQuantMinMax}},
                                                      {"i8-block", {pcclInt8, pcclQuantBlockScale}},
                                                      {"i4-block", {pcclInt4, pcclQuantBlockScale}},
                                                      {"u4-block", {pcclUint4, pcclQuantBlockScale}},
                                                      {"u2-block", {pcclUint2, pcclQuantBlockScale}}};
const Names<Split> kSplits{{"random", Split::kRandom}, {"sorted", Split::kSorted}};

/// Values of the command line as text. A value that was not set leaves the method's default.
struct Given {
    std::string method = "diloco", shard = "1/1", split = "random", quantize = "none", newcomers = "drain", pattern = "strided";
    std::string merge = "available", variance = "of-received";
    std::optional<std::string> outer, penalty, graph, partners;
    std::optional<float> rate, momentum, mixing, clip, own_weight;
    std::optional<std::uint32_t> fragments, overlap, degree;
    std::uint64_t graph_seed = 0;
    std::uint32_t inner = 100, min_peers = 1, verify_every = 1, block = 0;
    std::uint64_t join_timeout_ms = 30'000, round_ms = 0, step_ms = 0;
    bool weighted = false, optimize_topology = false, error_feedback = false, repair = false, by_age = false;
};

/// Parses a shard: "2/4" is the second of four. Throws CLI::ValidationError.
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

/// Parses a penalty: "none", "gap", or a number.
void read_penalty(const std::string &text, pcclTrainerConfig_t &config) {
    if (text == "none") {
        config.penalty_mode = pcclPenaltyNone;
    } else if (text == "gap") {
        config.penalty_mode = pcclPenaltyGapAware;
    } else {
        config.penalty_mode = pcclPenaltyConstant;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), config.penalty);
        if (error != std::errc{} || end != text.data() + text.size()) {
            throw CLI::ValidationError("--penalty", "expected none, gap or a number, not '" + text + "'");
        }
    }
}

void add_run_options(CLI::App &app, Options &options, Given &given) {
    app.add_option("--master", options.master, "Address of the master, host:port")->capture_default_str();
    app.add_option("--shard", given.shard, "This peer's part of the training data: i/n is the i-th of n")->capture_default_str();
    app.add_option("--split", given.split,
                   "How the data is divided: random, or sorted by label, so that each shard has few classes")
        ->check(CLI::IsMember(kSplits))
        ->capture_default_str();
    app.add_option("--steps", options.rounds, "Rounds of the whole run, not of this peer only")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str();
    app.add_option(
           "--expect-step", options.expected_step,
           "Fail if the run that this peer joins has made fewer rounds. Without it, a peer that takes a lost peer's place\n"
           "and joins after all others have ended begins a new run")
        ->capture_default_str();
    app.add_option("--batch", options.batch, "Images per inner step")->check(CLI::Range(1, 4096))->capture_default_str();
    app.add_option("--hidden", options.hidden, "Units in a hidden layer")->check(CLI::Range(1, 8192))->capture_default_str();
    app.add_option("--layers", options.layers, "Hidden layers")->check(CLI::Range(1, 64))->capture_default_str();
    app.add_option("--rate", options.inner_rate, "Highest learning rate of the inner AdamW")
        ->check(CLI::Range(0.0F, 1.0F))
        ->capture_default_str();
    app.add_option("--seed", options.seed, "Seed of the shards and the initial parameters; must be equal at all peers")
        ->capture_default_str();
    app.add_option("--data", options.data, "Directory with Fashion-MNIST (Debian package dataset-fashion-mnist)")
        ->capture_default_str();
    app.add_option("--test-every", options.test_every, "Rounds between two tests; 0: one test, at the end")
        ->capture_default_str();
    app.add_option("--test-images", options.test_images, "Largest number of test images")->check(CLI::Range(1, 100'000));
    app.add_option("--load", options.load,
                   "Begin with the checkpoint in this file; the state of a run with members has precedence");
    app.add_option("--save", options.save, "Write a checkpoint to this file at the end");
    app.add_option("--save-every", options.save_every, "Number of rounds after which --save also writes; 0: only at the end");
    app.add_option("--report", options.report, "File for one JSON line per round; - is standard output");
}

void add_method_options(CLI::App &app, Given &given) {
    app.add_option("--method", given.method,
                   "diloco: averages every --inner steps, and waits for them\n"
                   "async, eager, co2: applies averages one round late, while the next steps run\n"
                   "streaming: averages one fragment at a time\n"
                   "gossip, pushsum: each peer mixes its own model with the models of its neighbours in a graph\n"
                   "ddp: averages the gradient of every step\n"
                   "local: no communication")
        ->check(CLI::IsMember(kMethods))
        ->capture_default_str();
    app.add_option("--inner", given.inner, "Inner steps in a round")->check(CLI::Range(1, 1'000'000))->capture_default_str();
    app.add_option("--outer", given.outer, "Outer optimizer: sgd, heavy-ball or nesterov")->check(CLI::IsMember(kOptimizers));
    app.add_option("--outer-rate", given.rate, "Learning rate of the outer optimizer");
    app.add_option("--momentum", given.momentum, "Momentum of the outer optimizer");
    app.add_option("--newcomers", given.newcomers,
                   "async, eager, co2: how newcomers get the pending average: drain, share or resync")
        ->check(CLI::IsMember(kNewcomers))
        ->capture_default_str();
    app.add_option("--fragments", given.fragments, "streaming: number of fragments of the model");
    app.add_option("--pattern", given.pattern, "streaming: how the model is divided: strided, sequential or even")
        ->check(CLI::IsMember(kPatterns))
        ->capture_default_str();
    app.add_option("--overlap", given.overlap,
                   "streaming: inner steps between the launch and the application of a fragment's average");
    app.add_option("--mixing", given.mixing, "streaming: weight of a peer's own parameters, 0 to 1");
    app.add_option("--penalty", given.penalty, "co2: divisor of late averages: none, gap (measured) or a number");
    app.add_option("--clip", given.clip, "co2: bound on each element of the outer momentum; 0: none");
    app.add_flag("--weighted", given.weighted, "Weight contributions by the number of inner steps of their peer");
    app.add_option("--quantize", given.quantize,
                   "Quantization of averages on the wire: none, u8, u16, i8-block, i4-block, u4-block or u2-block")
        ->check(CLI::IsMember(kQuantizations))
        ->capture_default_str();
    app.add_option("--quantize-block", given.block, "Elements per scale for the -block types: 32, 64, 128, 256 or 512");
    app.add_flag("--error-feedback", given.error_feedback, "Add the quantization error to the next contribution");
    app.add_flag("--repair", given.repair, "After a loss, send only the missing part of an average again");
    app.add_option("--min-peers", given.min_peers, "Smallest number of peers with which a round begins")->capture_default_str();
    app.add_option("--verify-every", given.verify_every, "Rounds between two comparisons of the peers' states; 0: never")
        ->capture_default_str();
    app.add_flag("--optimize-topology", given.optimize_topology, "Search for the best ring after each admission of peers");
}

void add_gossip_options(CLI::App &app, Options &options, Given &given) {
    app.add_option("--graph", given.graph, "gossip, pushsum: graph of neighbours: ring, random, exponential or barabasi-albert")
        ->check(CLI::IsMember(kGraphs));
    app.add_option("--degree", given.degree,
                   "Neighbours of a peer in a random graph; neighbours that a joining peer chooses in a barabasi-albert graph");
    app.add_option("--graph-seed", given.graph_seed, "Seed of random and barabasi-albert graphs")->capture_default_str();
    app.add_option("--partners", given.partners,
                   "Receivers of a peer's model in a round: all (neighbours), one (random neighbour) or next (in turn)")
        ->check(CLI::IsMember(kPartners));
    app.add_option("--merge", given.merge,
                   "When a peer mixes: available (models that have arrived), after-all (once as many have arrived as it pushes)\n"
                   "or synchronous (waits for them)")
        ->check(CLI::IsMember(kMerges))
        ->capture_default_str();
    app.add_option("--own-weight", given.own_weight, "gossip: weight of a peer's own model in the mix, 0 to 1");
    app.add_option("--variance", given.variance,
                   "gossip: target variance of mixed weights: of-received, of-own, weighted or none. Biases are not corrected")
        ->check(CLI::IsMember(kVariances))
        ->capture_default_str();
    app.add_flag("--by-age", given.by_age, "gossip: weight models by their numbers of inner steps instead");
    app.add_flag("--own-start", options.own_start,
                 "gossip, pushsum: begin with this peer's own parameters instead of the run's. The shard is the seed, so shards "
                 "must differ");
    app.add_option("--distance-every", options.distance_every,
                   "gossip, pushsum: rounds between two measurements of the distance between models. All peers wait for it; 0: "
                   "only at the end")
        ->capture_default_str();
}

void add_times(CLI::App &app, Given &given) {
    const std::map<std::string, std::uint64_t> units{{"ms", 1}, {"s", 1000}, {"m", 60'000}};
    const auto add = [&](const char *name, std::uint64_t &ms, const char *words, const char *shown) {
        app.add_option(name, ms, words)
            ->transform(CLI::AsNumberWithUnit(units, CLI::AsNumberWithUnit::UNIT_REQUIRED))
            ->default_str(shown);
    };
    add("--join-timeout", given.join_timeout_ms, "Time limit for reaching the master, at the start and after its loss", "30s");
    add("--round-time", given.round_ms, "End each round after this time instead of after --inner steps; needs --weighted. 0: off",
        "0s");
    add("--step-time", given.step_ms, "Shortest duration of an inner step, to simulate a larger model or a slow peer", "0ms");
}

void check(pcclResult_t result, const char *call) {
    if (result != pcclSuccess) throw std::runtime_error(std::string(call) + ": " + pcclGetLastError());
}

template <class T, class U> void set(T &field, const std::optional<U> &given) {
    if (given) field = *given;
}

void apply(const Given &given, Options &options) {
    const Method method = kMethods.at(given.method);
    std::tie(options.shard_index, options.shard_count) = parse_shard(given.shard);
    options.split = kSplits.at(given.split);
    options.average_gradients = method.average_gradients;
    options.step_time = std::chrono::milliseconds(given.step_ms);

    pcclTrainerConfig_t &config = options.trainer;
    check(pcclTrainerConfigInit(&config, method.method), "pcclTrainerConfigInit");
    if (method.average_gradients) {
        config.outer_optimizer = pcclOuterSgd;
        config.outer_learning_rate = 1.0F;
    }
    config.sync_every = given.inner;
    if (given.outer) config.outer_optimizer = kOptimizers.at(*given.outer);
    set(config.outer_learning_rate, given.rate);
    set(config.outer_momentum, given.momentum);
    config.newcomers = kNewcomers.at(given.newcomers);
    set(config.fragments, given.fragments);
    config.fragment_pattern = kPatterns.at(given.pattern);
    set(config.overlap_steps, given.overlap);
    set(config.mixing, given.mixing);
    if (given.penalty) read_penalty(*given.penalty, config);
    set(config.clip_momentum, given.clip);
    config.weighted = given.weighted;
    config.round_ms = static_cast<std::uint32_t>(given.round_ms);
    if (given.graph) config.graph = kGraphs.at(*given.graph);
    set(config.graph_degree, given.degree);
    config.graph_seed = given.graph_seed;
    if (given.partners) config.partners = kPartners.at(*given.partners);
    config.merge = kMerges.at(given.merge);
    set(config.own_weight, given.own_weight);
    config.variance = kVariances.at(given.variance);
    config.uncorrected = "*.biases";
    config.weigh_by_age = given.by_age;
    config.quantization = kQuantizations.at(given.quantize);
    config.min_peers = given.min_peers;
    config.verify_every = given.verify_every;
    config.rejoin_ms = static_cast<std::uint32_t>(given.join_timeout_ms);
    config.optimize_topology = given.optimize_topology;

    options.models_differ = method.method == pcclMethodGossip || method.method == pcclMethodPushSum;
    if (options.own_start && !options.models_differ) {
        throw CLI::ValidationError("--own-start",
                                   "is for gossip and pushsum, because with other methods all peers have one model");
    }
    check(pcclReduceOptionsInit(&options.reduce), "pcclReduceOptionsInit");
    options.reduce.quantization_block = given.block;
    options.reduce.error_feedback = given.error_feedback;
    if (given.repair) options.reduce.on_peer_loss = pcclLossPolicyRepair;
}

}  // namespace

std::optional<Options> parse_options(int argc, char **argv, int &exit_status) {
    CLI::App app(
        "Trains a classifier of Fashion-MNIST over several peers with little communication, with DiLoCo and related methods.\n"
        "Start a pccl-master, then this program once per peer. Peers can be killed and started at any time. Options that the "
        "method does not use are ignored; options that are not set have the library's default for the method.\n",
        "diloco");
    app.get_formatter()->column_width(34);
    Options options;
    Given given;
    add_method_options(app, given);
    add_gossip_options(app, options, given);
    add_run_options(app, options, given);
    add_times(app, given);
    app.add_option("--state-file", options.state_file, "Keep the outer state in this file, mapped into memory");
    app.footer("Exit status: 0 if training ended and all peers hold the same bits (gossip, pushsum: if it ended), 1 if not, 64 "
               "for an error in the command line.");
    try {
        app.parse(argc, argv);
        apply(given, options);
    } catch (const CLI::ParseError &error) {
        exit_status = app.exit(error) == 0 ? 0 : kExitUsage;
        return std::nullopt;
    }
    return options;
}

}  // namespace diloco
