// See gossip_settings.h.
#include "train/gossip_settings.h"

#include <array>

#include <xxhash.h>

#include "base/arguments.h"
#include "train/method.h"

namespace pccl::train {
namespace {

constexpr std::array kGraphs = {"none", "ring", "random regular", "exponential", "Barabasi-Albert"};
constexpr std::array kPartners = {"all neighbours", "one neighbour", "the next neighbour"};
constexpr std::array kMerges = {"what has come", "when enough have come", "waiting for enough"};
constexpr std::array kVariances = {"of received", "of own", "weighted", "none"};

template <class Enum, class Names> bool has_name(const Enum &value, const Names &names) {
    return is_within(value, static_cast<int>(names.size()));
}

Outcome unknown(const char *field) {
    return invalid(std::string("invalid configuration: `").append(field).append("` has an unknown value"));
}

}  // namespace

void set_gossip_defaults(pcclTrainerConfig_t &config) { config.sync_every = 10; }

void set_push_sum_defaults(pcclTrainerConfig_t &config) {
    config.sync_every = 10;
    config.graph = pcclGraphExponential;
    config.partners = pcclPartnersNext;
}

Outcome check_gossip(const pcclTrainerConfig_t &c) {
    if (c.graph == pcclGraphNone || !has_name(c.graph, kGraphs)) {
        return invalid("invalid configuration: `graph` is pcclGraphNone or unknown; gossip needs a graph, which gives each peer "
                       "its neighbours");
    }
    const bool has_degree = c.graph == pcclGraphRandomRegular || c.graph == pcclGraphBarabasiAlbert;
    const std::uint32_t least = c.graph == pcclGraphRandomRegular ? 2 : 1;
    if (has_degree && (c.graph_degree < least || c.graph_degree > 64)) {
        return invalid("invalid configuration: `graph_degree` is " + std::to_string(c.graph_degree) + ", not " +
                       std::to_string(least) + " to 64");
    }
    if (!has_name(c.partners, kPartners)) return unknown("partners");
    if (!has_name(c.merge, kMerges)) return unknown("merge");
    if (c.merge == pcclMergeSynchronous && c.partners == pcclPartnersOne) {
        return invalid("invalid configuration: pcclMergeSynchronous cannot be combined with pcclPartnersOne, because a peer then "
                       "does not know "
                       "how many models to wait for; use pcclPartnersAll or pcclPartnersNext");
    }
    if (c.exchange_wait_ms == 0) return invalid("invalid configuration: `exchange_wait_ms` is 0; set it to 1 or more");
    if (!finite_in(c.own_weight, 0.0F, 1.0F))
        return invalid("invalid configuration: `own_weight` is " + number(c.own_weight) + ", not 0 to 1");
    if (!has_name(c.variance, kVariances)) return unknown("variance");
    if (c.weighted) {
        return invalid(
            "invalid configuration: `weighted` weighs averages of all peers, which gossip does not have; clear it and use "
            "`weigh_by_age`");
    }
    if (c.quantization.algorithm != pcclQuantNone) {
        return invalid("invalid configuration: `quantization` applies to averages, and gossip sends whole models; clear it");
    }
    if (c.island_consensus) {
        return invalid("invalid configuration: `island_consensus` needs a method with an average of all peers, and gossip has "
                       "none; clear it");
    }
    return {};
}

Outcome check_push_sum(const pcclTrainerConfig_t &c) {
    PCCL_TRAIN_TRY(check_gossip(c));
    if (c.merge == pcclMergeAfterAll) {
        return invalid("invalid configuration: pcclMergeAfterAll needs pcclMethodGossip, because push-sum adds each model when "
                       "it arrives; use "
                       "pcclMergeAvailable or pcclMergeSynchronous");
    }
    return {};
}

void describe_push_sum(const pcclTrainerConfig_t &c, std::string &text) {
    text += std::string(", graph ") + kGraphs[c.graph] + " " + std::to_string(c.graph_degree) + " " +
            std::to_string(c.graph_seed) + ", pushing to " + kPartners[c.partners] + ", merging " + kMerges[c.merge];
}

void describe_gossip(const pcclTrainerConfig_t &c, std::string &text) {
    describe_push_sum(c, text);
    const std::string except = c.uncorrected ? c.uncorrected : "";
    text += ", own weight " + number(c.own_weight) + ", variance " + kVariances[c.variance] + (c.weigh_by_age ? ", by age" : "") +
            ", uncorrected " + std::to_string(XXH3_64bits(except.data(), except.size()) % 1'000'000);
}

}  // namespace pccl::train
