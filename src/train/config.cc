#include "train/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include <xxhash.h>

#include "train/stability.h"

namespace pccl::train {
namespace {

constexpr std::array kMethods = {"local", "DiLoCo", "async DiLoCo", "eager DiLoCo", "streaming DiLoCo", "CO2", "gossip", "push-sum"};
constexpr std::array kOptimizers = {"SGD", "heavy ball", "Nesterov"};
constexpr std::array kNewcomers = {"drain", "share pending", "resync"};
constexpr std::array kPatterns = {"strided", "sequential", "even"};
constexpr std::array kGraphs = {"none", "ring", "random regular", "exponential", "Barabasi-Albert"};
constexpr std::array kPartners = {"all neighbours", "one neighbour", "the next neighbour"};
constexpr std::array kMerges = {"what has come", "when enough have come", "waiting for enough"};
constexpr std::array kVariances = {"of received", "of own", "weighted", "none"};
constexpr std::array kNonFinite = {"left out", "a failure"};
constexpr std::array kPenalties = {"none", "constant", "gap-aware"};

/// Read as the number that it is: C may put any there, and C++ has no enumerator for most.
template <class Enum> bool within(const Enum &value, std::size_t end) {
    std::underlying_type_t<Enum> raw{};
    std::memcpy(&raw, &value, sizeof raw);
    return static_cast<std::size_t>(raw) < end;
}

std::string number(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.9g", value);
    return text.data();
}

bool finite_in(float value, float low, float high) { return std::isfinite(value) && value >= low && value <= high; }

Outcome check_method(const pcclTrainerConfig_t &c) {
    if (!finite_in(c.outer_learning_rate, 0.0F, 1e6F)) return invalid("outer_learning_rate is " + number(c.outer_learning_rate) + ", not 0 or more");
    if (!finite_in(c.outer_momentum, 0.0F, 1.0F) || c.outer_momentum == 1.0F) {
        return invalid("outer_momentum is " + number(c.outer_momentum) + ", not 0 to below 1");
    }
    if (c.method == pcclMethodStreamingDiLoCo) {
        if (c.fragments == 0 || c.fragments > c.sync_every) {
            return invalid("fragments is " + std::to_string(c.fragments) + ", not 1 to sync_every (" + std::to_string(c.sync_every) +
                           "): each begins at a step of its own");
        }
        if (c.overlap_steps >= c.sync_every) return invalid("overlap_steps is not below sync_every");
        if (!finite_in(c.mixing, 0.0F, 1.0F)) return invalid("mixing is " + number(c.mixing) + ", not 0 to 1");
        if (c.weighted) return invalid("weighted: fragments are not weighted, since their steps are of several rounds");
    }
    if (c.method == pcclMethodEagerDiLoCo && c.outer_optimizer == pcclOuterHeavyBall) {
        return invalid("pcclMethodEagerDiLoCo has pcclOuterSgd or pcclOuterNesterov as outer_optimizer");
    }
    if (c.method == pcclMethodCO2) {
        if (c.outer_optimizer != pcclOuterHeavyBall) return invalid("pcclMethodCO2 has pcclOuterHeavyBall and no other outer_optimizer");
        if (!finite_in(c.penalty, 1.0F, 1e6F)) return invalid("penalty is " + number(c.penalty) + ", not 1 or more");
        if (!finite_in(c.clip_momentum, 0.0F, 1e30F)) return invalid("clip_momentum is " + number(c.clip_momentum) + ", not 0 or more");
    }
    return {};
}

Outcome check_gossip(const pcclTrainerConfig_t &c) {
    if (c.graph == pcclGraphNone || !within(c.graph, kGraphs.size())) return invalid("graph is none or unknown: without one nobody has neighbours");
    const bool has_degree = c.graph == pcclGraphRandomRegular || c.graph == pcclGraphBarabasiAlbert;
    const std::uint32_t least = c.graph == pcclGraphRandomRegular ? 2 : 1;
    if (has_degree && (c.graph_degree < least || c.graph_degree > 64)) {
        return invalid("graph_degree is " + std::to_string(c.graph_degree) + ", not " + std::to_string(least) + " to 64");
    }
    if (!within(c.partners, kPartners.size())) return invalid("partners is unknown");
    if (!within(c.merge, kMerges.size())) return invalid("merge is unknown");
    if (c.merge == pcclMergeSynchronous && c.partners == pcclPartnersOne) {
        return invalid("pcclMergeSynchronous: where everyone pushes to one neighbour by chance nobody knows how many models are to come");
    }
    if (c.merge == pcclMergeAfterAll && c.method == pcclMethodPushSum) return invalid("pcclMergeAfterAll is for pcclMethodGossip: push-sum adds what comes at once");
    if (c.exchange_wait_ms == 0) return invalid("exchange_wait_ms is 0");
    if (!finite_in(c.own_weight, 0.0F, 1.0F)) return invalid("own_weight is " + number(c.own_weight) + ", not 0 to 1");
    if (!within(c.variance, kVariances.size())) return invalid("variance is unknown");
    if (c.weighted) return invalid("weighted: there is no average of all to weigh; weigh_by_age is for gossip");
    if (c.quantization.algorithm != pcclQuantNone) return invalid("quantization is of averages; models that peers push to one another are whole");
    return {};
}

Outcome check(const pcclTrainerConfig_t &c) {
    if (!within(c.method, kMethods.size())) return invalid("method is unknown");
    if (c.sync_every == 0) return invalid("sync_every is 0");
    if (!within(c.outer_optimizer, kOptimizers.size())) return invalid("outer_optimizer is unknown");
    if (!within(c.newcomers, kNewcomers.size())) return invalid("newcomers is unknown");
    if (!within(c.fragment_pattern, kPatterns.size())) return invalid("fragment_pattern is unknown");
    if (!within(c.penalty_mode, kPenalties.size())) return invalid("penalty_mode is unknown");
    if (c.round_ms != 0 && !c.weighted) return invalid("round_ms is set: peers would make different numbers of steps, which needs `weighted`");
    if (c.weighted && c.reduce && c.reduce->on_peer_loss == pcclLossPolicyRepair) {
        return invalid("weighted averages are sums, and pcclLossPolicyRepair is not for sums: leave reduce->on_peer_loss as it is");
    }
    const bool can_shard = c.method == pcclMethodDiLoCo || c.method == pcclMethodAsyncDiLoCo || c.method == pcclMethodCO2;
    if (c.sharded && !can_shard) return invalid("sharded is for pcclMethodDiLoCo, pcclMethodAsyncDiLoCo and pcclMethodCO2");
    if (c.sharded && c.weighted) return invalid("sharded and weighted are not both to be had");
    if (c.sharded && c.reduce && c.reduce->on_peer_loss == pcclLossPolicyRepair) return invalid("sharded steps have no pcclLossPolicyRepair: leave reduce->on_peer_loss as it is");
    if (!within(c.non_finite, kNonFinite.size())) return invalid("non_finite is unknown");
    if (c.island_consensus && is_gossip(c.method)) return invalid("island_consensus is for methods with an average of all: peers of gossip decide by themselves");
    if (c.island_consensus && c.round_ms != 0) return invalid("island_consensus and round_ms cannot be combined: the processes of an island would end rounds at different steps");
    if (c.state_buffer && c.state_file) return invalid("state_buffer and state_file are both set");
    if (is_gossip(c.method)) PCCL_TRAIN_TRY(check_gossip(c));
    return check_method(c);
}

}  // namespace

bool is_delayed(pcclMethod_t method) {
    return method == pcclMethodAsyncDiLoCo || method == pcclMethodEagerDiLoCo || method == pcclMethodCO2;
}

bool is_gossip(pcclMethod_t method) { return method == pcclMethodGossip || method == pcclMethodPushSum; }

bool set_defaults(pcclTrainerConfig_t &config, pcclMethod_t method) {
    if (!within(method, kMethods.size())) return false;
    config = {};
    config.struct_size = sizeof config;
    config.method = method;
    config.sync_every = 100;
    config.fragments = 2;
    config.overlap_steps = 1;
    config.mixing = 0.5F;
    config.penalty = 1.0F;
    config.min_peers = 1;
    config.rejoin_ms = 600'000;
    config.verify_every = 1;
    config.outer_optimizer = pcclOuterNesterov;
    config.outer_learning_rate = 0.7F;
    config.outer_momentum = 0.9F;
    if (method == pcclMethodStreamingDiLoCo) config.outer_learning_rate = 0.4F;
    if (method == pcclMethodAsyncDiLoCo || method == pcclMethodEagerDiLoCo) {
        config.outer_optimizer = pcclOuterSgd;
        config.outer_momentum = 0.0F;
    }
    config.graph = method == pcclMethodPushSum ? pcclGraphExponential : pcclGraphRandomRegular;
    config.graph_degree = 4;
    config.partners = method == pcclMethodPushSum ? pcclPartnersNext : pcclPartnersAll;
    config.exchange_wait_ms = 10'000;
    config.own_weight = 0.5F;
    if (is_gossip(method)) config.sync_every = 10;
    if (method == pcclMethodCO2) {
        config.outer_optimizer = pcclOuterHeavyBall;
        config.outer_learning_rate = 1.0F;
        config.outer_momentum = 0.2F;
        config.penalty_mode = pcclPenaltyGapAware;
    }
    return true;
}

Outcome read_config(const pcclTrainerConfig_t *config, pcclTrainerConfig_t &out) {
    if (!config) return invalid("config is NULL");
    if (config->struct_size < offsetof(pcclTrainerConfig_t, sync_every) || config->struct_size > 65536) {
        return invalid("config->struct_size is not set: call pcclTrainerConfigInit first");
    }
    if (!within(config->method, kMethods.size())) return invalid("method is unknown");
    set_defaults(out, config->method);
    std::memcpy(&out, config, std::min(config->struct_size, sizeof out));
    out.struct_size = sizeof out;
    const auto *tail = reinterpret_cast<const unsigned char *>(config);
    for (std::size_t i = sizeof out; i < config->struct_size; ++i) {
        if (tail[i] != 0) return invalid("the program was built for a newer library and asks for something that this one does not have");
    }
    return check(out);
}

Buffers buffers_of(const pcclTrainerConfig_t &config) {
    Buffers out;
    if (config.method == pcclMethodLocal) return out;
    out.exchange = is_gossip(config.method);
    if (out.exchange) return out;
    out.average = true;
    out.momentum = config.outer_optimizer != pcclOuterSgd && !config.sharded;
    out.overlay = config.method == pcclMethodEagerDiLoCo;
    return out;
}

namespace {

std::string describe_outer(const pcclTrainerConfig_t &c) {
    std::string text = std::string() + kMethods[c.method] + " every " + std::to_string(c.sync_every) + " steps, outer " +
                       kOptimizers[c.outer_optimizer] + " " + number(c.outer_learning_rate) + " " + number(c.outer_momentum);
    if (is_delayed(c.method)) text += std::string(", newcomers ") + kNewcomers[c.newcomers];
    if (c.method == pcclMethodStreamingDiLoCo) {
        text += ", " + std::to_string(c.fragments) + " fragments " + kPatterns[c.fragment_pattern] + ", overlap " + std::to_string(c.overlap_steps) +
                ", mixing " + number(c.mixing);
    }
    if (c.method == pcclMethodCO2) {
        text += std::string(", penalty ") + kPenalties[c.penalty_mode] + " " + number(c.penalty) + ", clip " + number(c.clip_momentum);
    }
    text += std::string(", contributions not finite ") + kNonFinite[c.non_finite];
    return text + std::string(c.weighted ? ", weighted" : "") + (c.sharded ? ", sharded" : "") + ", verify every " + std::to_string(c.verify_every) + ", at least " +
            std::to_string(c.min_peers) + " peers" + (c.optimize_topology ? ", optimizes the topology" : "") + (c.island_consensus ? ", of islands" : "");
}

std::string describe_gossip(const pcclTrainerConfig_t &c) {
    std::string text = std::string(kMethods[c.method]) + " every " + std::to_string(c.sync_every) + " steps, graph " + kGraphs[c.graph] + " " +
                       std::to_string(c.graph_degree) + " " + std::to_string(c.graph_seed) + ", pushing to " + kPartners[c.partners] + ", merging " +
                       kMerges[c.merge];
    if (c.method == pcclMethodGossip) {
        const std::string except = c.uncorrected ? c.uncorrected : "";
        text += ", own weight " + number(c.own_weight) + ", variance " + kVariances[c.variance] + (c.weigh_by_age ? ", by age" : "") + ", uncorrected " +
                std::to_string(XXH3_64bits(except.data(), except.size()) % 1'000'000);
    }
    return text + ", at least " + std::to_string(c.min_peers) + " peers" + (c.optimize_topology ? ", optimizes the topology" : "");
}

}  // namespace

std::string describe(const pcclTrainerConfig_t &c) {
    return "pccl.trainer: " + (is_gossip(c.method) ? describe_gossip(c) : describe_outer(c));
}

std::string warning(const pcclTrainerConfig_t &c) {
    if (c.method == pcclMethodLocal || c.method == pcclMethodStreamingDiLoCo || is_gossip(c.method)) return "";
    double rate = c.outer_learning_rate, fresh = 1.0;
    if (is_delayed(c.method)) fresh = 0.0;
    if (c.method == pcclMethodEagerDiLoCo) fresh = 1.0 / std::max<std::uint32_t>(c.min_peers, 2);
    if (c.method == pcclMethodCO2) {
        if (c.clip_momentum > 0.0F) return "";
        if (c.penalty_mode == pcclPenaltyConstant) rate /= c.penalty;
        if (c.penalty_mode == pcclPenaltyGapAware) rate /= 2.0;
    }
    if (stable(c.outer_optimizer, rate, c.outer_momentum, fresh)) return "";
    const double scale = c.outer_learning_rate > 0.0F ? rate / c.outer_learning_rate : 1.0;
    return std::string(kMethods[c.method]) + " with outer " + kOptimizers[c.outer_optimizer] + ", learning rate " + number(c.outer_learning_rate) +
           " and momentum " + number(c.outer_momentum) + " is likely to diverge: averages " + (fresh < 1.0 ? "come a step late, and " : "") +
           "at this momentum the learning rate must stay below " +
           number(std::round(1000.0 * largest_stable_rate(c.outer_optimizer, c.outer_momentum, fresh) / scale) / 1000.0);
}

}  // namespace pccl::train
