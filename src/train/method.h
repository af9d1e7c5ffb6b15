// The table of training methods: one row per method. Pure.
//
// A method of DiLoCo's family is one row, plus functions for settings that no other method has. A row defines which data is
// exchanged (ModelExchange), when an average is applied (Schedule), how the outer step is computed (OuterStep), and how the
// caller's parameters are replaced (Merge). No other file tests for a particular method.
#pragma once

#include <cstdint>
#include <string>

#include <pccl/train.h>

#include "train/outcome.h"
#include "train/outer_state.h"

namespace pccl::train {

/// The data that peers exchange.
enum class ModelExchange : std::uint8_t {
    none,      ///< nothing: each peer trains alone
    averages,  ///< averages of pseudo-gradients (OuterTrainer)
    models,    ///< models, to neighbours in a graph (GossipTrainer)
    sums       ///< shares of a sum of models, to neighbours in a graph (GossipTrainer)
};

/// When the average of a fragment is applied.
enum class Schedule : std::uint8_t {
    synchronous,  ///< in the call that launched it
    overlapped,   ///< `overlap_steps` inner steps later, for one fragment at a time
    delayed       ///< when the next average is launched, one outer step later
};

/// How the outer step is computed from an average.
enum class OuterStep : std::uint8_t {
    plain,     ///< the configured outer optimizer
    penalized  ///< heavy ball with clipped momentum; the average is divided by a penalty for staleness
};

/// The new values of the caller's parameters after an outer step.
enum class Merge : std::uint8_t {
    replace,  ///< the outer parameters
    mix,      ///< a weighted mean of the peer's own parameters and the outer parameters
    overlay   ///< the outer parameters, moved by this peer's own newest contribution
};

/// The outer optimizer as the stability criterion sees it (train/stability.h).
struct StabilityModel {
    bool checked = false;
    double rate = 0.0;   ///< effective learning rate
    double fresh = 1.0;  ///< share of the gradient that is not one outer step old
};

struct MethodTraits {
    pcclMethod_t method;
    const char *name;  ///< used in descriptions, which must be equal at all peers, and in warnings
    ModelExchange exchange = ModelExchange::averages;
    Schedule schedule = Schedule::synchronous;
    OuterStep outer_step = OuterStep::plain;
    Merge merge = Merge::replace;
    bool can_shard = false;
    /// Changes the common defaults to those of this method. Each of these functions may be NULL.
    void (*set_defaults)(pcclTrainerConfig_t &) = nullptr;
    Outcome (*check)(const pcclTrainerConfig_t &) = nullptr;
    /// Appends this method's settings to the description.
    void (*describe)(const pcclTrainerConfig_t &, std::string &) = nullptr;
    /// NULL: the method is not checked for stability.
    StabilityModel (*stability)(const pcclTrainerConfig_t &) = nullptr;

    bool is_local() const { return exchange == ModelExchange::none; }
    bool is_gossip() const { return exchange == ModelExchange::models || exchange == ModelExchange::sums; }
    bool is_delayed() const { return schedule == Schedule::delayed; }
    bool is_overlapped() const { return schedule == Schedule::overlapped; }
};

/// The row of a method; NULL if it does not exist. `method` may hold any number.
const MethodTraits *find_method(const pcclMethod_t &method);

/// The row of a method that read_config() has accepted.
const MethodTraits &traits_of(const pcclTrainerConfig_t &config);

/// The buffers that a trainer keeps.
Buffers buffers_of(const pcclTrainerConfig_t &config);

/// The number of fragments that the model is cut into.
std::uint32_t fragments_of(const pcclTrainerConfig_t &config);

// Functions that the checks and descriptions of all methods use.

/// `value` as text, with up to nine digits.
std::string number(double value);
/// True if `value` is finite and in [low, high].
bool finite_in(float value, float low, float high);

}  // namespace pccl::train
