// See method.h.
#include "train/method.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "base/arguments.h"
#include "train/gossip_settings.h"

namespace pccl::train {
namespace {

constexpr std::array kPatterns = {"strided", "sequential", "even"};
constexpr std::array kPenalties = {"none", "constant", "gap-aware"};

StabilityModel model(const pcclTrainerConfig_t &c, double fresh) { return {true, c.outer_learning_rate, fresh}; }

StabilityModel synchronous_stability(const pcclTrainerConfig_t &c) { return model(c, 1.0); }
StabilityModel delayed_stability(const pcclTrainerConfig_t &c) { return model(c, 0.0); }

void use_plain_sgd(pcclTrainerConfig_t &c) {
    c.outer_optimizer = pcclOuterSgd;
    c.outer_momentum = 0.0F;
}

// Eager DiLoCo

Outcome check_eager(const pcclTrainerConfig_t &c) {
    if (c.outer_optimizer != pcclOuterHeavyBall) return {};
    return invalid(
        "invalid configuration: pcclMethodEagerDiLoCo cannot use pcclOuterHeavyBall; set `outer_optimizer` to pcclOuterSgd or "
        "pcclOuterNesterov");
}

/// The peer's own contribution is applied without delay; it is one of at least `min_peers`.
StabilityModel eager_stability(const pcclTrainerConfig_t &c) { return model(c, 1.0 / std::max<std::uint32_t>(c.min_peers, 2)); }

// Streaming DiLoCo

void set_streaming_defaults(pcclTrainerConfig_t &c) { c.outer_learning_rate = 0.4F; }

Outcome check_streaming(const pcclTrainerConfig_t &c) {
    if (c.fragments == 0 || c.fragments > c.sync_every) {
        return invalid("invalid configuration: `fragments` is " + std::to_string(c.fragments) + ", not 1 to `sync_every` (" +
                       std::to_string(c.sync_every) + "); each fragment begins its outer step at a different inner step");
    }
    if (c.overlap_steps >= c.sync_every) {
        return invalid("invalid configuration: `overlap_steps` is " + std::to_string(c.overlap_steps) +
                       ", not below `sync_every` (" + std::to_string(c.sync_every) + ")");
    }
    if (!finite_in(c.mixing, 0.0F, 1.0F))
        return invalid("invalid configuration: `mixing` is " + number(c.mixing) + ", not 0 to 1");
    if (c.weighted) {
        return invalid("invalid configuration: `weighted` cannot be combined with pcclMethodStreamingDiLoCo, because the steps "
                       "of a fragment "
                       "belong to several rounds; clear `weighted`");
    }
    return {};
}

void describe_streaming(const pcclTrainerConfig_t &c, std::string &text) {
    text += ", " + std::to_string(c.fragments) + " fragments " + kPatterns[c.fragment_pattern] + ", overlap " +
            std::to_string(c.overlap_steps) + ", mixing " + number(c.mixing);
}

// CO2

void set_co2_defaults(pcclTrainerConfig_t &c) {
    c.outer_optimizer = pcclOuterHeavyBall;
    c.outer_learning_rate = 1.0F;
    c.outer_momentum = 0.2F;
    c.penalty_mode = pcclPenaltyGapAware;
}

Outcome check_co2(const pcclTrainerConfig_t &c) {
    if (c.outer_optimizer != pcclOuterHeavyBall) {
        return invalid("invalid configuration: pcclMethodCO2 needs pcclOuterHeavyBall; set `outer_optimizer` to it");
    }
    if (!finite_in(c.penalty, 1.0F, 1e6F))
        return invalid("invalid configuration: `penalty` is " + number(c.penalty) + ", not 1 to 1e6");
    if (!finite_in(c.clip_momentum, 0.0F, 1e30F)) {
        return invalid("invalid configuration: `clip_momentum` is " + number(c.clip_momentum) + ", not 0 to 1e30");
    }
    return {};
}

void describe_co2(const pcclTrainerConfig_t &c, std::string &text) {
    text +=
        std::string(", penalty ") + kPenalties[c.penalty_mode] + " " + number(c.penalty) + ", clip " + number(c.clip_momentum);
}

StabilityModel co2_stability(const pcclTrainerConfig_t &c) {
    if (c.clip_momentum > 0.0F) return {};
    StabilityModel out = delayed_stability(c);
    if (c.penalty_mode == pcclPenaltyConstant) out.rate /= c.penalty;
    if (c.penalty_mode == pcclPenaltyGapAware) out.rate /= 2.0;
    return out;
}

// The rows, in the order of pcclMethod_t.
constexpr std::array kMethods = {
    MethodTraits{.method = pcclMethodLocal, .name = "local", .exchange = ModelExchange::none},
    MethodTraits{.method = pcclMethodDiLoCo, .name = "DiLoCo", .can_shard = true, .stability = synchronous_stability},
    MethodTraits{.method = pcclMethodAsyncDiLoCo,
                 .name = "async DiLoCo",
                 .schedule = Schedule::delayed,
                 .can_shard = true,
                 .set_defaults = use_plain_sgd,
                 .stability = delayed_stability},
    MethodTraits{.method = pcclMethodEagerDiLoCo,
                 .name = "eager DiLoCo",
                 .schedule = Schedule::delayed,
                 .merge = Merge::overlay,
                 .set_defaults = use_plain_sgd,
                 .check = check_eager,
                 .stability = eager_stability},
    MethodTraits{.method = pcclMethodStreamingDiLoCo,
                 .name = "streaming DiLoCo",
                 .schedule = Schedule::overlapped,
                 .merge = Merge::mix,
                 .set_defaults = set_streaming_defaults,
                 .check = check_streaming,
                 .describe = describe_streaming},
    MethodTraits{.method = pcclMethodCO2,
                 .name = "CO2",
                 .schedule = Schedule::delayed,
                 .outer_step = OuterStep::penalized,
                 .can_shard = true,
                 .set_defaults = set_co2_defaults,
                 .check = check_co2,
                 .describe = describe_co2,
                 .stability = co2_stability},
    MethodTraits{.method = pcclMethodGossip,
                 .name = "gossip",
                 .exchange = ModelExchange::models,
                 .set_defaults = set_gossip_defaults,
                 .check = check_gossip,
                 .describe = describe_gossip},
    MethodTraits{.method = pcclMethodPushSum,
                 .name = "push-sum",
                 .exchange = ModelExchange::sums,
                 .set_defaults = set_push_sum_defaults,
                 .check = check_push_sum,
                 .describe = describe_push_sum},
};

constexpr bool rows_are_in_order() {
    for (std::size_t i = 0; i < kMethods.size(); ++i)
        if (static_cast<std::size_t>(kMethods[i].method) != i) return false;
    return true;
}
static_assert(rows_are_in_order());

}  // namespace

const MethodTraits *find_method(const pcclMethod_t &method) {
    return is_within(method, static_cast<int>(kMethods.size())) ? &kMethods[static_cast<std::size_t>(raw_number(method))]
                                                                : nullptr;
}

const MethodTraits &traits_of(const pcclTrainerConfig_t &config) { return kMethods[static_cast<std::size_t>(config.method)]; }

Buffers buffers_of(const pcclTrainerConfig_t &config) {
    const MethodTraits &method = traits_of(config);
    Buffers out;
    out.exchange = method.is_gossip();
    if (method.exchange != ModelExchange::averages) return out;
    out.average = true;
    out.momentum = config.outer_optimizer != pcclOuterSgd && !config.sharded;
    out.overlay = method.merge == Merge::overlay;
    return out;
}

std::uint32_t fragments_of(const pcclTrainerConfig_t &config) { return traits_of(config).is_overlapped() ? config.fragments : 1; }

std::string number(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.9g", value);
    return text.data();
}

bool finite_in(float value, float low, float high) { return std::isfinite(value) && value >= low && value <= high; }

}  // namespace pccl::train
