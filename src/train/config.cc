// See config.h.
#include "train/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/arguments.h"
#include "train/stability.h"

namespace pccl::train {
namespace {

constexpr std::array kOptimizers = {"SGD", "heavy ball", "Nesterov"};
constexpr std::array kNewcomers = {"drain", "share pending", "resync"};
constexpr std::array kNonFinite = {"left out", "a failure"};
constexpr int kPatterns = 3, kPenalties = 3;

Outcome wrong(const std::string &what) { return invalid("invalid configuration: " + what); }

Outcome check_enums(const pcclTrainerConfig_t &c) {
    const auto unknown = [](const char *field) { return wrong(std::string("`").append(field).append("` has an unknown value")); };
    if (!is_within(c.outer_optimizer, kOptimizers.size())) return unknown("outer_optimizer");
    if (!is_within(c.newcomers, kNewcomers.size())) return unknown("newcomers");
    if (!is_within(c.fragment_pattern, kPatterns)) return unknown("fragment_pattern");
    if (!is_within(c.penalty_mode, kPenalties)) return unknown("penalty_mode");
    if (!is_within(c.non_finite, kNonFinite.size())) return unknown("non_finite");
    return {};
}

/// Settings of averages that cannot be combined.
Outcome check_combinations(const pcclTrainerConfig_t &c) {
    const bool repairs = c.reduce && c.reduce->on_peer_loss == pcclLossPolicyRepair;
    if (c.round_ms != 0 && !c.weighted) {
        return wrong("`round_ms` is set, so peers make different numbers of steps, which needs `weighted`; set `weighted` or "
                     "clear `round_ms`");
    }
    if (c.weighted && repairs) {
        return wrong("`weighted` averages are sums, and pcclLossPolicyRepair is not available for sums; leave "
                     "`reduce->on_peer_loss` at its default");
    }
    if (c.sharded && !traits_of(c).can_shard) {
        return wrong(
            "`sharded` needs pcclMethodDiLoCo, pcclMethodAsyncDiLoCo or pcclMethodCO2; clear it or use one of these methods");
    }
    if (c.sharded && c.weighted) return wrong("`sharded` and `weighted` cannot be combined; clear one of them");
    if (c.sharded && repairs)
        return wrong("`sharded` and pcclLossPolicyRepair cannot be combined; leave `reduce->on_peer_loss` at its default");
    if (c.island_consensus && c.round_ms != 0) {
        return wrong("`island_consensus` and `round_ms` cannot be combined, because the processes of an island would end rounds "
                     "at different "
                     "steps; clear one of them");
    }
    if (c.state_buffer && c.state_file) return wrong("`state_buffer` and `state_file` cannot be combined; clear one of them");
    return {};
}

Outcome check(const pcclTrainerConfig_t &c) {
    if (c.sync_every == 0) return wrong("`sync_every` is 0; set it to 1 or more");
    PCCL_TRAIN_TRY(check_enums(c));
    PCCL_TRAIN_TRY(check_combinations(c));
    if (!finite_in(c.outer_learning_rate, 0.0F, 1e6F)) {
        return wrong("`outer_learning_rate` is " + number(c.outer_learning_rate) + ", not 0 to 1e6");
    }
    if (!finite_in(c.outer_momentum, 0.0F, 1.0F) || c.outer_momentum == 1.0F) {
        return wrong("`outer_momentum` is " + number(c.outer_momentum) + ", not at least 0 and below 1");
    }
    const MethodTraits &method = traits_of(c);
    return method.check ? method.check(c) : Outcome{};
}

}  // namespace

Outcome unknown_method(const pcclMethod_t &method) {
    return wrong("`method` is " + std::to_string(raw_number(method)) + ", which is not a method; use one of pcclMethod_t");
}

bool set_defaults(pcclTrainerConfig_t &config, const pcclMethod_t &method) {
    const MethodTraits *row = find_method(method);
    if (!row) return false;
    config = {};
    config.struct_size = sizeof config;
    config.method = row->method;
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
    config.graph = pcclGraphRandomRegular;
    config.graph_degree = 4;
    config.partners = pcclPartnersAll;
    config.exchange_wait_ms = 10'000;
    config.own_weight = 0.5F;
    if (row->set_defaults) row->set_defaults(config);
    return true;
}

Outcome read_config(const pcclTrainerConfig_t *config, pcclTrainerConfig_t &out) {
    if (!config) return invalid("config is NULL");
    if (config->struct_size < kSmallestConfig || config->struct_size > kLargestStruct) {
        return wrong("`struct_size` is not set; call pcclTrainerConfigInit first");
    }
    if (!set_defaults(out, config->method)) return unknown_method(config->method);
    std::memcpy(&out, config, std::min(config->struct_size, sizeof out));
    out.struct_size = sizeof out;
    const auto *tail = reinterpret_cast<const unsigned char *>(config);
    for (std::size_t i = sizeof out; i < config->struct_size; ++i) {
        if (tail[i] != 0) {
            return wrong("a field is set that this library does not have; the program was built for a newer library. Use that "
                         "library, or leave "
                         "the field at its default");
        }
    }
    return check(out);
}

namespace {

/// The settings of all methods that average over all peers.
std::string describe_outer(const pcclTrainerConfig_t &c) {
    const MethodTraits &method = traits_of(c);
    std::string text = std::string() + method.name + " every " + std::to_string(c.sync_every) + " steps, outer " +
                       kOptimizers[c.outer_optimizer] + " " + number(c.outer_learning_rate) + " " + number(c.outer_momentum);
    if (method.is_delayed()) text += std::string(", newcomers ") + kNewcomers[c.newcomers];
    if (method.describe) method.describe(c, text);
    text += std::string(", contributions not finite ") + kNonFinite[c.non_finite];
    return text + std::string(c.weighted ? ", weighted" : "") + (c.sharded ? ", sharded" : "") + ", verify every " +
           std::to_string(c.verify_every) + ", at least " + std::to_string(c.min_peers) + " peers" +
           (c.optimize_topology ? ", optimizes the topology" : "") + (c.island_consensus ? ", of islands" : "");
}

std::string describe_exchange(const pcclTrainerConfig_t &c) {
    const MethodTraits &method = traits_of(c);
    std::string text = std::string(method.name) + " every " + std::to_string(c.sync_every) + " steps";
    if (method.describe) method.describe(c, text);
    return text + ", at least " + std::to_string(c.min_peers) + " peers" +
           (c.optimize_topology ? ", optimizes the topology" : "");
}

}  // namespace

// Peers of different releases compare this text, so it must not change.
std::string describe(const pcclTrainerConfig_t &c) {
    return "pccl.trainer: " + (traits_of(c).is_gossip() ? describe_exchange(c) : describe_outer(c));
}

std::string warning(const pcclTrainerConfig_t &c) {
    const MethodTraits &method = traits_of(c);
    const StabilityModel model = method.stability ? method.stability(c) : StabilityModel{};
    if (!model.checked || stable(c.outer_optimizer, model.rate, c.outer_momentum, model.fresh)) return "";
    const double scale = c.outer_learning_rate > 0.0F ? model.rate / c.outer_learning_rate : 1.0;
    return std::string(method.name) + " with outer " + kOptimizers[c.outer_optimizer] + ", learning rate " +
           number(c.outer_learning_rate) + " and momentum " + number(c.outer_momentum) +
           " is likely to diverge: " + (model.fresh < 1.0 ? "averages are applied one outer step late, and " : "") +
           "at this momentum the learning rate must be below " +
           number(std::round(1000.0 * largest_stable_rate(c.outer_optimizer, c.outer_momentum, model.fresh) / scale) / 1000.0);
}

}  // namespace pccl::train
