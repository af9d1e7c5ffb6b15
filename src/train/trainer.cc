// See train/trainer.h.
#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>

#include <pccl/extend.h>

#include "base/float_mode.h"
#include "train/averager.h"
#include "train/config.h"
#include "train/definition.h"
#include "train/gossip_trainer.h"
#include "train/outer_trainer.h"
#include "train/vector.h"

namespace pccl::train {
namespace {

constexpr std::uint64_t kFirstTag = std::uint64_t{1} << 63U;  // lower tags belong to callers

pcclTensorInfo_t describe_tensor(const char *name, void *data, std::size_t count, pcclDataType_t type) {
    pcclTensorInfo_t info{};
    info.name = name;
    info.data = data;
    info.count = count;
    info.datatype = type;
    return info;
}

}  // namespace

/// While it exists, a call is running that interrupt() can end.
class Busy {
public:
    explicit Busy(Trainer &trainer) : trainer_(trainer) {
        trainer_.busy_thread_ = std::this_thread::get_id();
        trainer_.busy_ = true;
    }
    ~Busy() { trainer_.busy_ = false; }
    Busy(const Busy &) = delete;
    Busy &operator=(const Busy &) = delete;

private:
    Trainer &trainer_;
};

Outcome Trainer::make(const pcclTrainerConfig_t &config, std::unique_ptr<Collectives> collectives,
                      std::vector<Parameter> parameters, std::unique_ptr<Trainer> &out) {
    std::unique_ptr<Trainer> made;
    if (traits_of(config).is_gossip())
        made.reset(new GossipTrainer(config, std::move(collectives), std::move(parameters)));
    else
        made.reset(new OuterTrainer(config, std::move(collectives), std::move(parameters)));
    PCCL_TRAIN_TRY(made->open());
    out = std::move(made);
    if (const std::string words = warning(config); !words.empty()) pcclLogWarning(words.c_str());
    return {};
}

Trainer::Trainer(const pcclTrainerConfig_t &config, std::unique_ptr<Collectives> collectives, std::vector<Parameter> parameters)
    : config_(config), method_(traits_of(config_)), collectives_(std::move(collectives)), parameters_(std::move(parameters)),
      agreement_(config.island_consensus, config.agree_context) {
    if (!agreement_.alone()) config_.rejoin_ms = 0;  // an island rejoins as a whole
    description_ = describe(config_);
    definition_ = definition_names(lines_of(parameters_), parameters_);
    if (config_.state_file) state_file_ = config_.state_file;
    config_.state_file = nullptr;
    config_.reduce = nullptr;       // the collectives have a copy
    config_.uncorrected = nullptr;  // the method has a copy
    status_.non_finite_tensor = SIZE_MAX;
    MembershipOptions options;
    options.min_peers = config_.min_peers;
    options.rejoin = std::chrono::milliseconds(config_.rejoin_ms);
    options.optimize_topology = config_.optimize_topology;
    options.barrier_tag = kFirstTag;
    options.founder_leads = method_.is_gossip();
    membership_ =
        std::make_unique<Membership>(*collectives_, agreement_, interrupted_, options, [this] { return shared_state(); });
}

Outcome Trainer::open() {
    PCCL_TRAIN_TRY(make_layout(parameters_, config_.fragment_pattern, fragments_of(config_), layout_));
    PCCL_TRAIN_TRY(state_.open(config_, state_file_, layout_, buffers_of(config_)));
    take_parameters();
    return {};
}

void Trainer::take_parameters() {
    for (const Fragment &fragment : layout_.fragments) {
        for (const Piece &piece : fragment.pieces) {
            const Parameter &p = parameters_[piece.parameter];
            train::load(p.type, p.at(piece.first), state_.parameters + piece.flat, piece.count);
        }
    }
}

std::vector<pcclTensorInfo_t> Trainer::shared_state() {
    static std::uint8_t none = 0;
    std::vector<pcclTensorInfo_t> out;
    out.push_back(describe_tensor(description_.c_str(), &none, 1, pcclUint8));
    for (const std::string &name : definition_)
        out.push_back(describe_tensor(name.c_str(), &none, 1, pcclUint8));
    const std::size_t first = out.size();
    out.push_back(describe_tensor("pccl.outer_parameters", state_.parameters, state_.size, pcclFloat));
    if (state_.momentum) out.push_back(describe_tensor("pccl.outer_momentum", state_.momentum, state_.size, pcclFloat));
    out.push_back(describe_tensor("pccl.counters", &state_.counters, kCounterWords, pcclUint64));
    for (std::size_t i = first; i < out.size() && !members_agree(); ++i)
        out[i].allow_content_inequality = true;
    add_shared(out);
    for (const pcclTensorInfo_t &shared : shared_) {
        out.push_back(shared);
        // The first peers of a run begin with one version of all tensors, as newcomers do.
        if (membership_->founding()) out.back().allow_content_inequality = false;
    }
    return out;
}

Outcome Trainer::share(const pcclTensorInfo_t *tensors, std::size_t count) {
    if (ever_joined_) return {pcclInvalidUsage, "the trainer has joined already. Share tensors before pcclTrainerJoin"};
    if (!tensors && count != 0) return invalid("tensors is NULL");
    for (std::size_t i = 0; i < count; ++i) {
        const std::string which = "tensors[" + std::to_string(i) + "]";
        if (!tensors[i].name || !*tensors[i].name) return invalid(which + " has no name");
        const std::string name = tensors[i].name;
        if (name.starts_with("pccl.")) return invalid(which + ": names that begin with pccl. are reserved for the trainer");
        for (const auto &other : shared_names_)
            if (*other == name) return invalid(which + ": '" + name + "' is shared already");
        if (!tensors[i].data || tensors[i].count == 0) return invalid(which + " ('" + name + "') has no data");
        shared_names_.push_back(std::make_unique<std::string>(name));
        shared_.push_back(tensors[i]);
        shared_.back().name = shared_names_.back()->c_str();
    }
    return {};
}

Outcome Trainer::define(const char *const *lines, std::size_t count) {
    if (ever_joined_) return {pcclInvalidUsage, "the trainer has joined already. Describe the model before pcclTrainerJoin"};
    if (!lines && count != 0) return invalid("lines is NULL");
    std::vector<std::string> copied;
    for (std::size_t i = 0; i < count; ++i) {
        if (!lines[i]) return invalid("lines[" + std::to_string(i) + "] is NULL");
        copied.emplace_back(lines[i]);
    }
    definition_ = definition_names(copied, parameters_);
    return {};
}

Outcome Trainer::relocate(const std::string &name, void *data) {
    if (!data) return invalid("data is NULL");
    for (Parameter &p : parameters_) {
        if (p.name != name) continue;
        p.data = data;
        return {};
    }
    for (pcclTensorInfo_t &shared : shared_) {
        if (name != shared.name) continue;
        shared.data = data;
        return {};
    }
    return invalid("no parameter and no shared tensor has the name '" + name + "'");
}

Outcome Trainer::join() {
    const FloatMode mode;  // for values that must be equal at all peers: norms, penalties, averages of weights
    if (joined_) return {pcclInvalidUsage, "the trainer has joined already"};
    interrupted_ = false;
    status_.events = 0;
    if (method_.is_local()) {
        joined_ = ever_joined_ = true;
        return {};
    }
    const Busy busy(*this);
    if (ever_joined_)
        abandon();
    else if (!loaded_)
        take_parameters();  // the caller may have changed them since the trainer was made
    agreement_.begin();
    return leave(agreement_.conclude(enter()));
}

/// The text that names the first tensor of the outer state that is not finite; empty if all are finite.
std::string Trainer::not_finite_in_state() const {
    for (const Fragment &fragment : layout_.fragments) {
        for (const float *buffer : {state_.parameters, state_.momentum}) {
            const std::size_t first = buffer ? first_not_finite(buffer + fragment.first, fragment.count) : fragment.count;
            if (first != fragment.count)
                return (buffer == state_.momentum ? "the outer momentum of " : "") + words_of(fragment, first);
        }
    }
    return "";
}

/// Joins the run, for the first time or again.
Outcome Trainer::enter() {
    const Stopwatch blocked(status_.blocked_s);
    const std::string unusable = not_finite_in_state();
    if (!unusable.empty()) {
        pcclLogWarning(
            (unusable + " is infinite or not a number. This peer receives the run's state and does not send its own").c_str());
    }
    Agreed agreed;
    Outcome outcome = membership_->join(agreed, unusable.empty());
    if (outcome.code == pcclNoSharedStateAvailable && !unusable.empty()) {
        return invalid("no member has finite initial parameters: at this peer " + unusable +
                       " is infinite or not a number. Initialize the parameters, or load another checkpoint");
    }
    if (outcome.code == pcclInvalidUsage) outcome.why = explain_refusal(outcome.why, shared_state());
    PCCL_TRAIN_TRY(std::move(outcome));
    joined_ = ever_joined_ = true;
    return note(agreed);
}

/// Updates this peer's membership in the run after a failure.
Outcome Trainer::leave(Outcome outcome) {
    if (!outcome.ok()) joined_ = false;
    return outcome;
}

Outcome Trainer::step(bool end_round) {
    const FloatMode mode;
    if (!joined_) return {pcclInvalidUsage, "this peer is not in the run. Call pcclTrainerJoin first"};
    if (end_round && !config_.weighted)
        return {pcclInvalidUsage,
                "pcclTrainerEndRound needs `weighted`, because peers then make different numbers of steps. Set `weighted`"};
    status_.events = 0;
    const bool together = end_round || is_due();  // otherwise this step contains nothing that an island must agree on
    const Busy busy(*this);
    Outcome outcome = advance_or_rejoin(end_round);
    return leave(together ? agreement_.conclude(std::move(outcome)) : std::move(outcome));
}

Outcome Trainer::advance_or_rejoin(bool end_round) {
    if (interrupted_) return {pcclRankConnectionLost, "pcclTrainerInterrupt was called"};
    Outcome outcome = advance(end_round);
    if (outcome.code == pcclMasterConnectionFailed && config_.rejoin_ms != 0 && !interrupted_) {
        pcclLogWarning(("this peer is out of the run and joins again: " + outcome.why).c_str());
        abandon();
        outcome = enter();
        if (outcome.ok()) status_.events |= PCCL_TRAINER_REJOINED;
    }
    return outcome;
}

Outcome Trainer::finish() {
    const FloatMode mode;
    if (!joined_)
        return {pcclInvalidUsage, "this peer is not in the run, so there is nothing to finish. Call pcclTrainerJoin first"};
    status_.events = 0;
    const Busy busy(*this);
    Outcome outcome = agreement_.conclude(conclude());
    joined_ = false;
    if (outcome.ok()) membership_->retire();
    if (outcome.ok() && !method_.is_local()) publish_all();
    return outcome;
}

Outcome Trainer::add_weight(double weight) {
    if (!config_.weighted)
        return {pcclInvalidUsage, "contributions have equal weights in this configuration. Set `weighted` to use weights"};
    if (!std::isfinite(weight) || weight < 0.0) return invalid("weight is negative, infinite or not a number");
    weight_ += weight;
    weight_given_ = true;
    return {};
}

Outcome Trainer::save(const std::string &path) const {
    return save_state(path, state_, layout_, parameters_, membership_->revision());
}

Outcome Trainer::load(const std::string &path) {
    if (ever_joined_)
        return {pcclInvalidUsage,
                "the trainer has joined already, and all peers share the run's state. Load checkpoints before pcclTrainerJoin"};
    std::uint64_t revision = 0;
    PCCL_TRAIN_TRY(load_state(path, state_, layout_, parameters_, revision));
    membership_->set_revision(revision);
    loaded_ = true;
    publish_all();
    return {};
}

Outcome Trainer::outer_parameters(std::size_t index, float *out) const {
    if (index >= parameters_.size()) return invalid("there is no parameter " + std::to_string(index));
    if (!out) return invalid("out is NULL");
    for (const Fragment &fragment : layout_.fragments) {
        for (const Piece &piece : fragment.pieces) {
            if (piece.parameter == index)
                std::memcpy(out + piece.first, state_.parameters + piece.flat, piece.count * sizeof(float));
        }
    }
    return {};
}

void Trainer::interrupt() {
    interrupted_ = true;
    if (busy_thread_ == std::this_thread::get_id()) {  // called from the wait hook, which runs repeatedly
        if (busy_) collectives_->abort();
        return;
    }
    // The abort is repeated, because a call that had not begun at the first abort would still wait.
    while (busy_) {
        collectives_->abort();
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

pcclTrainerStatus_t Trainer::status() const {
    pcclTrainerStatus_t out = status_;
    out.outer_steps = state_.counters.outer_steps;
    out.inner_steps = state_.counters.inner_steps;
    return out;
}

std::string Trainer::words_of(const Fragment &fragment, std::size_t element) const {
    if (element >= fragment.count) return "the weight";
    const Place place = place_in(fragment, element);
    return "'" + parameters_[place.parameter].name + "' (element " + std::to_string(place.element) + ")";
}

void Trainer::note_not_finite(std::uint64_t peer, std::size_t parameter, const std::string &words) {
    ++status_.non_finite_rounds;
    status_.non_finite_peer = peer;
    status_.non_finite_tensor = parameter;
    status_.events |= PCCL_TRAINER_NON_FINITE;
    pcclLogWarning(words.c_str());
}

Outcome Trainer::note(const Agreed &agreed) {
    status_.tx_bytes += agreed.tx_bytes;
    status_.rx_bytes += agreed.rx_bytes;
    if (agreed.received) status_.events |= PCCL_TRAINER_STATE_RECEIVED;
    saw(membership_->world());
    return agreed.synchronized ? settled(agreed) : Outcome{};
}

void Trainer::saw(std::uint32_t world) {
    membership_->saw(world);
    if (status_.world_size != 0 && world > status_.world_size) status_.events |= PCCL_TRAINER_WORLD_GREW;
    if (world < status_.world_size) status_.events |= PCCL_TRAINER_WORLD_SHRANK;
    status_.world_size = world;
}

void Trainer::publish(const Fragment &fragment) {
    for (const Piece &piece : fragment.pieces) {
        const Parameter &p = parameters_[piece.parameter];
        store(p.type, state_.parameters + piece.flat, p.at(piece.first), piece.count);
    }
}

void Trainer::publish_all() {
    for (const Fragment &fragment : layout_.fragments)
        publish(fragment);
}

}  // namespace pccl::train
