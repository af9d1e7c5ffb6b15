// See train/outer_trainer.h.
#include "train/outer_trainer.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include <pccl/extend.h>

#include "train/config.h"
#include "train/vector.h"

namespace pccl::train {
namespace {

constexpr std::uint64_t kFirstTag = (std::uint64_t{1} << 63U) + 16;
constexpr std::uint32_t kStaleRounds = 3;  // a peer without a finite contribution in this many rounds receives the run's state
constexpr std::size_t kBlock = 4096;       // elements that fit in the first-level cache between two passes

}  // namespace

OuterTrainer::OuterTrainer(const pcclTrainerConfig_t &config, std::unique_ptr<Collectives> collectives,
                           std::vector<Parameter> parameters)
    : Trainer(config, std::move(collectives), std::move(parameters)), rule_(config_) {}

OuterTrainer::~OuterTrainer() { averager_.reset(); }  // before the buffers that it uses

bool OuterTrainer::delayed() const { return method_.is_delayed(); }

Outcome OuterTrainer::open() {
    PCCL_TRAIN_TRY(Trainer::open());
    Reducer *reducer = nullptr;
    if (config_.sharded) {
        sharded_ = std::make_unique<ShardedStep>(*collectives_, rule_, state_.parameters);
        reducer = sharded_.get();
    } else {
        whole_ = std::make_unique<WholeAverage>(*collectives_);
        reducer = whole_.get();
    }
    const auto rounds = static_cast<std::uint32_t>(layout_.fragments.size());  // each fragment has one average per round
    averager_ = std::make_unique<Averager>(*collectives_, *reducer, interrupted_, kStaleRounds * rounds);
    for (const Fragment &fragment : layout_.fragments)
        if (state_.start) std::copy_n(state_.parameters + fragment.first, fragment.count, state_.start + fragment.first);
    return {};
}

void OuterTrainer::add_shared(std::vector<pcclTensorInfo_t> &tensors) {
    if (!delayed() || config_.newcomers != pcclNewcomersSharePending) return;
    if (state_.counters.held == 0) std::fill_n(state_.average, state_.size, 0.0F);
    pcclTensorInfo_t info{};
    info.name = "pccl.pending_average";
    info.data = state_.average;
    info.count = state_.size;
    info.datatype = pcclFloat;
    tensors.push_back(info);
}

/// The schedule is a function of the run's inner steps, not of the steps of this peer.
bool OuterTrainer::begins(std::size_t fragment, std::uint64_t step) const {
    const std::uint64_t every = config_.sync_every, n = layout_.fragments.size();
    return step % every == (every * (fragment + 1) / n) % every;
}

bool OuterTrainer::is_due() const {
    if (method_.is_local()) return false;
    if (config_.round_ms != 0) return true;
    const std::uint64_t next = state_.counters.inner_steps + 1;
    if (!delayed() && !flights_.empty() && flights_.front().apply_at <= next) return true;
    for (std::size_t i = 0; i < layout_.fragments.size(); ++i)
        if (begins(i, next)) return true;
    return false;
}

/// The question for the next outer step is asked halfway between two outer steps, so that its round trip is hidden behind inner
/// steps. Any time would be correct: only the order of questions matters.
bool OuterTrainer::asks_ahead(std::uint64_t step) const {
    const std::uint64_t ahead = config_.sync_every / layout_.fragments.size() / 2;
    if (ahead == 0) return false;
    for (std::size_t i = 0; i < layout_.fragments.size(); ++i)
        if (begins(i, step + ahead)) return true;
    return false;
}

Outcome OuterTrainer::advance(bool end_round) {
    ++round_steps_;
    std::uint64_t &step = state_.counters.inner_steps;
    ++step;
    if (method_.is_local()) return {};
    const std::chrono::milliseconds limit(config_.round_ms);
    if (end_round || (limit.count() != 0 && collectives_->clock().now() - round_start_ >= limit)) {
        step = (step + config_.sync_every - 1) / config_.sync_every * config_.sync_every;
    }
    while (!flights_.empty() && !delayed() && flights_.front().apply_at <= step) {
        const Fragment &fragment = layout_.fragments[flights_.front().fragment];
        bool has_average = false;
        PCCL_TRAIN_TRY(collect(has_average));
        if (has_average) PCCL_TRAIN_TRY(apply(fragment));
        merge(fragment);
    }
    bool begun = false;
    if (asks_ahead(step)) membership_->ask_ahead();
    for (std::size_t i = 0; i < layout_.fragments.size(); ++i) {
        if (!begins(i, step)) continue;
        PCCL_TRAIN_TRY(delayed() ? begin_delayed(i) : begin(i));
        begun = true;
    }
    return begun ? boundary() : Outcome{};
}

Outcome OuterTrainer::begin(std::size_t index) {
    const Fragment &fragment = layout_.fragments[index];
    take_pseudo_gradient(fragment);
    launch(index);
    if (flights_.back().apply_at > state_.counters.inner_steps) return {};
    bool has_average = false;
    PCCL_TRAIN_TRY(collect(has_average));
    if (has_average) PCCL_TRAIN_TRY(apply(fragment));
    merge(fragment);
    return {};
}

/// The pseudo-gradient is measured from the start of this round, before the previous round's average moves the outer parameters.
Outcome OuterTrainer::begin_delayed(std::size_t index) {
    const Fragment &fragment = layout_.fragments[index];
    bool has_average = state_.counters.held != 0 && !resyncing_;
    state_.counters.held = 0;
    if (!flights_.empty()) PCCL_TRAIN_TRY(collect(has_average));
    take_pseudo_gradient(fragment);
    if (has_average) PCCL_TRAIN_TRY(apply(fragment));
    if (second_sync_) PCCL_TRAIN_TRY(catch_up());
    restart(fragment);
    launch(index);
    return {};
}

/// A newcomer that resynchronizes receives the state after the members' outer step.
Outcome OuterTrainer::catch_up() {
    const Stopwatch blocked(status_.blocked_s);
    if (resyncing_) membership_->changed();  // the members' revision increased as well
    Agreed agreed;
    auto outcome = membership_->synchronize(
        resyncing_ ? PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY : PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY, agreed);
    const bool members_gone = resyncing_ && outcome.code == pcclNoSharedStateAvailable;
    second_sync_ = resyncing_ = false;
    status_.tx_bytes += agreed.tx_bytes;
    status_.rx_bytes += agreed.rx_bytes;
    if (agreed.received) status_.events |= PCCL_TRAINER_STATE_RECEIVED;
    return members_gone ? Outcome{} : outcome;  // the pending average was lost with the other members
}

/// A pseudo-gradient that is not finite is replaced by zeros. It then affects neither the other peers nor the start of this
/// peer's next round.
void OuterTrainer::take_pseudo_gradient(const Fragment &fragment) {
    const float *start = state_.start ? state_.start : state_.parameters;
    // After a replacement of parameters the steps since then are not a whole round.
    not_finite_ = std::exchange(replaced(fragment), kAllFinite);
    for (const Piece &piece : fragment.pieces) {
        const Parameter &p = parameters_[piece.parameter];
        for (std::size_t i = 0; i < piece.count && not_finite_ == kAllFinite; i += kBlock) {
            const std::size_t n = std::min(kBlock, piece.count - i), flat = piece.flat + i;
            difference(p.type, start + flat, p.at(piece.first + i), state_.pseudo_gradient + flat, n);
            const std::size_t first = first_not_finite(state_.pseudo_gradient + flat, n);
            if (first != n) not_finite_ = flat + first - fragment.first;
        }
    }
    if (not_finite_ != kAllFinite) std::fill_n(state_.pseudo_gradient + fragment.first, fragment.count, 0.0F);
}

void OuterTrainer::launch(std::size_t index) {
    const Fragment &fragment = layout_.fragments[index];
    Contribution c;
    c.send = state_.pseudo_gradient + fragment.first;
    c.recv = state_.average + fragment.first;
    c.count = fragment.count;
    c.tag = kFirstTag + kTagsPerAverage * index;
    c.quantization = config_.quantization;
    c.weighted = config_.weighted;
    c.weight = weight_given_ ? weight_ : static_cast<double>(round_steps_);
    c.not_finite = not_finite_;
    c.verify = config_.verify_every != 0 && state_.counters.outer_steps % config_.verify_every == 0;
    if (c.verify) status_.digest = c.digest = state_.digest();
    if (sharded_) sharded_->set_penalty(status_.penalty = rule_.penalty(state_.counters));
    averager_->launch(c);
    flights_.push_back({index, state_.counters.inner_steps + (method_.is_overlapped() ? config_.overlap_steps : 0)});
    round_steps_ = 0;
    weight_ = 0.0;
    weight_given_ = false;
    round_start_ = collectives_->clock().now();
}

/// Waits for the earliest average in flight.
Outcome OuterTrainer::collect(bool &has_average) {
    Average average;
    {
        const Stopwatch blocked(status_.blocked_s);
        average = averager_->wait();
    }
    const Fragment &fragment = layout_.fragments[flights_.front().fragment];
    flights_.pop_front();
    status_.tx_bytes += average.tx_bytes;
    status_.rx_bytes += average.rx_bytes;
    status_.communicating_s += average.seconds;
    if (!average.outcome.ok()) return average.outcome;
    saw(average.world);
    status_.contributors = average.world;
    diverged_ |= average.diverged;
    stale_ |= average.stale;
    own_stale_ |= average.own_stale;
    has_average = !average.nothing;
    return note_contributions(fragment, average);
}

/// Counts and logs contributions and averages that are not finite. All members have the same information.
Outcome OuterTrainer::note_contributions(const Fragment &fragment, const Average &average) {
    status_.left_out = average.own_left_out;
    if (average.step_overflow != kAllFinite) return note_step_overflow(fragment, average.step_overflow);
    const bool overflows = average.overflow != kAllFinite;
    if (average.left_out == 0 && !overflows) return {};
    std::string words;
    std::uint64_t peer = 0;
    std::size_t element = average.overflow;
    if (average.left_out != 0) {
        peer = average.culprit.peer();
        element = average.culprit.element();
        words = "the contribution of peer " + std::to_string(peer) +
                (average.own_left_out && peer == collectives_->self() ? " (this one)" : "") +
                " is not finite: " + words_of(fragment, element) + " is infinite or not a number. ";
        if (average.left_out > 1)
            words += "In total, " + std::to_string(average.left_out) + " contributions are not finite" +
                     (average.own_left_out && peer != collectives_->self() ? ", including this peer's. " : ". ");
        if (config_.non_finite == pcclNonFiniteFail)
            words += "The round fails because `non_finite` is pcclNonFiniteFail";
        else if (average.counted == 0)
            words += "No outer step is made";
        else
            words += "The average contains the other " + std::to_string(average.counted);
    } else {
        words = "the average is not finite although all contributions are: " + words_of(fragment, element) +
                " overflows. No outer step is made";
    }
    note_not_finite(peer, element < fragment.count ? place_in(fragment, element).parameter : SIZE_MAX, words);
    return config_.non_finite == pcclNonFiniteFail ? invalid(words) : Outcome{};
}

/// The state and the average are bit-identical at all members, so all members call this.
Outcome OuterTrainer::note_step_overflow(const Fragment &fragment, std::size_t element) {
    const std::string words =
        "the outer step is not finite although the average is: " + words_of(fragment, element) +
        " or its momentum overflows. The step is not applied. Use a smaller outer_learning_rate or outer_momentum";
    note_not_finite(0, place_in(fragment, element).parameter, words);
    return config_.non_finite == pcclNonFiniteFail ? invalid(words) : Outcome{};
}

Outcome OuterTrainer::apply(const Fragment &fragment) {
    float *p = state_.parameters + fragment.first;
    const float *average = state_.average + fragment.first;
    double squares = 0.0;
    if (sharded_) {  // the gathered values are the parameters after the step
        squares = squared_distance(average, p, fragment.count);
        std::copy_n(average, fragment.count, p);
    } else {
        float *momentum = state_.momentum ? state_.momentum + fragment.first : nullptr;
        status_.penalty = rule_.penalty(state_.counters);
        // The check comes before the step, because the step must change all elements or none.
        const std::size_t overflow = rule_.first_overflow(p, momentum, average, status_.penalty, fragment.count);
        if (overflow != fragment.count) return note_step_overflow(fragment, overflow);
        squares = rule_.step(p, momentum, average, status_.penalty, fragment.count);
    }
    if (method_.outer_step == OuterStep::penalized) rule_.moved(state_.counters, squares);
    ++state_.counters.outer_steps;
    membership_->changed();
    status_.events |= PCCL_TRAINER_OUTER_STEP;
    return {};
}

std::size_t &OuterTrainer::replaced(const Fragment &fragment) {
    replaced_.resize(layout_.fragments.size(), kAllFinite);
    return replaced_[static_cast<std::size_t>(&fragment - layout_.fragments.data())];
}

/// Called when parameters of the fragment to merge are not finite. The next inner step would spread that to all fragments, so all
/// fragments take the outer parameters. The other fragments are in the middle of a round, which is lost.
void OuterTrainer::heal(const Fragment &merged) {
    pcclLogWarning("parameters of this peer are infinite or not a number. They are replaced by the outer parameters");
    for (const Fragment &other : layout_.fragments) {
        const std::size_t first = &other == &merged ? kAllFinite : not_finite_in(other);
        if (first == kAllFinite) continue;
        replaced(other) = first;
        publish(other);
    }
    publish(merged);
}

/// The first parameter that is not finite, as an element of the fragment.
std::size_t OuterTrainer::not_finite_in(const Fragment &fragment) const {
    std::array<float, 1024> block;
    for (const Piece &piece : fragment.pieces) {
        const Parameter &p = parameters_[piece.parameter];
        for (std::size_t i = 0; i < piece.count; i += block.size()) {
            const std::size_t n = std::min(block.size(), piece.count - i);
            train::load(p.type, p.at(piece.first + i), block.data(), n);
            const std::size_t first = first_not_finite(block.data(), n);
            if (first != n) return piece.flat + i + first - fragment.first;
        }
    }
    return kAllFinite;
}

/// Sets the caller's parameters after the outer step of a fragment, for methods without a delay of a round.
void OuterTrainer::merge(const Fragment &fragment) {
    const bool mixes = method_.merge == Merge::mix;
    const float own = mixes ? config_.mixing : 0.0F;
    if (mixes && not_finite_in(fragment) != kAllFinite) return heal(fragment);
    if (own == 0.0F) return publish(fragment);
    std::array<float, 1024> block;
    for (const Piece &piece : fragment.pieces) {
        const Parameter &p = parameters_[piece.parameter];
        for (std::size_t i = 0; i < piece.count; i += block.size()) {
            const std::size_t n = std::min(block.size(), piece.count - i);
            train::load(p.type, p.at(piece.first + i), block.data(), n);
            mix(block.data(), state_.parameters + piece.flat + i, own, n);
            store(p.type, block.data(), p.at(piece.first + i), n);
        }
    }
}

/// Sets the start of the next round: the outer parameters or, in eager DiLoCo, the outer parameters moved by this peer's share of
/// the average in flight.
void OuterTrainer::restart(const Fragment &fragment) {
    if (!state_.start) return publish(fragment);
    const auto peers = static_cast<float>(std::max<std::uint32_t>(membership_->world(), 1));
    const float momentum = config_.outer_optimizer == pcclOuterSgd ? 0.0F : config_.outer_momentum;
    overlay(state_.start + fragment.first, state_.overlay_momentum + fragment.first, state_.parameters + fragment.first,
            state_.pseudo_gradient + fragment.first, config_.outer_learning_rate / peers, momentum, fragment.count);
    for (const Piece &piece : fragment.pieces) {
        const Parameter &p = parameters_[piece.parameter];
        store(p.type, state_.start + piece.flat, p.at(piece.first), piece.count);
    }
}

/// Admits newcomers and repairs states. All members do this at the same point of the run.
Outcome OuterTrainer::boundary() {
    const Stopwatch blocked(status_.blocked_s);
    bool wait = false;
    PCCL_TRAIN_TRY(membership_->newcomers_wait(wait));
    bool too_few = membership_->world() < config_.min_peers, diverged = diverged_ || stale_;
    PCCL_TRAIN_TRY(agreement_.any(Agreement::Question::world, too_few));
    PCCL_TRAIN_TRY(agreement_.any(Agreement::Question::repair, diverged));
    if (!wait && !too_few && !diverged) return {};
    PCCL_TRAIN_TRY(drain());
    diverged |= agreement_.alone() && (diverged_ || stale_);
    if (diverged) {
        if (diverged_) status_.events |= PCCL_TRAINER_DIVERGED;
        if (own_stale_)
            pcclLogWarning(
                "this peer has made no finite contribution for three rounds. It receives the run's state from the others");
        membership_->distrust(own_stale_);
        diverged_ = stale_ = own_stale_ = false;
    }
    bool grown = false;
    if (wait) PCCL_TRAIN_TRY(membership_->admit(grown));
    Agreed agreed;
    PCCL_TRAIN_TRY(membership_->settle(agreed));
    return note(agreed);
}

/// Waits for all averages in flight and applies them. A delayed method keeps its average for the next outer step unless
/// `newcomers` is pcclNewcomersDrain or a state must be repaired.
Outcome OuterTrainer::drain() {
    while (!flights_.empty()) {
        const Fragment &fragment = layout_.fragments[flights_.front().fragment];
        bool has_average = false;
        PCCL_TRAIN_TRY(collect(has_average));
        if (!delayed()) {
            if (has_average) PCCL_TRAIN_TRY(apply(fragment));
            merge(fragment);
        } else if (config_.newcomers == pcclNewcomersDrain || diverged_ || stale_) {
            if (has_average) PCCL_TRAIN_TRY(apply(fragment));
            if (state_.start) std::fill_n(state_.pseudo_gradient + fragment.first, fragment.count, 0.0F);
            restart(fragment);
        } else {
            state_.counters.held = has_average ? 1 : 0;
        }
    }
    return {};
}

Outcome OuterTrainer::settled(const Agreed &agreed) {
    if (agreed.newcomer || agreed.received) {
        averager_->renew();
        replaced_.clear();
        if (state_.start) {
            std::copy_n(state_.parameters, state_.size, state_.start);
            std::fill_n(state_.overlay_momentum, state_.size, 0.0F);
        }
        publish_all();
    }
    second_sync_ = delayed() && config_.newcomers == pcclNewcomersResync && state_.counters.held != 0;
    resyncing_ = second_sync_ && agreed.newcomer;
    round_start_ = collectives_->clock().now();
    round_steps_ = 0;
    return {};
}

void OuterTrainer::abandon() {
    for (; !flights_.empty(); flights_.pop_front())
        static_cast<void>(averager_->wait());
    state_.counters.held = 0;
    if (sharded_) sharded_->forget();
    second_sync_ = resyncing_ = diverged_ = stale_ = own_stale_ = false;
    averager_->renew();
    replaced_.clear();
    weight_ = 0.0;
    weight_given_ = false;
}

Outcome OuterTrainer::conclude() {
    if (method_.is_local()) return {};
    const Stopwatch blocked(status_.blocked_s);
    if (state_.counters.held != 0) {
        state_.counters.held = 0;
        if (!resyncing_) PCCL_TRAIN_TRY(apply(layout_.fragments.front()));
        if (second_sync_) PCCL_TRAIN_TRY(catch_up());
    }
    while (!flights_.empty()) {
        const Fragment &fragment = layout_.fragments[flights_.front().fragment];
        bool has_average = false;
        PCCL_TRAIN_TRY(collect(has_average));
        if (has_average) PCCL_TRAIN_TRY(apply(fragment));
    }
    if (config_.verify_every != 0) status_.digest = state_.digest();
    return {};
}

}  // namespace pccl::train
