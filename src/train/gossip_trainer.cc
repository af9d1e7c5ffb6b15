// See train/gossip_trainer.h.
#include "train/gossip_trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include <pccl/extend.h>
#include <xxhash.h>

#include "train/config.h"
#include "train/variance.h"
#include "train/vector.h"

namespace pccl::train {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kFirstTag = (std::uint64_t{1} << 63U) + 16;
// A synchronous merge uses the tags in turn: for one round behind, this round, one round ahead, and one more between them.
constexpr std::uint64_t kTags = 4;
constexpr std::uint32_t kSlice = 100;  // ms between two checks of the neighbours while waiting for their models
// A peer that is faster than its senders halves its weight in each round. Below this weight it keeps the rest, because inner
// steps count by 1 / weight.
constexpr double kSmallestWeight = 1.0 / 64.0;
constexpr std::uint64_t kSmallestMailbox = std::uint64_t{1} << 30U;
constexpr std::uint64_t kMailboxModels = 16;
// After this many rounds without a finite model, the mix of the neighbours' models counts as a received state.
constexpr std::uint32_t kStaleRounds = 3;

bool matches(const std::string &name, std::string pattern) {
    const bool any_before = pattern.starts_with('*');
    if (any_before) pattern.erase(0, 1);
    const bool any_after = pattern.ends_with('*');
    if (any_after) pattern.pop_back();
    if (any_before && any_after) return name.find(pattern) != std::string::npos;
    if (any_before) return name.ends_with(pattern);
    return any_after ? name.starts_with(pattern) : name == pattern;
}

}  // namespace

struct GossipTrainer::Header {
    std::uint64_t magic = 0;
    std::uint64_t generation = 0;
    std::uint64_t round = 0;
    std::uint64_t age = 0;
    double weight = 0.0;           ///< push-sum's share
    std::uint64_t elements = 0;    ///< 0 in a notice
    std::uint64_t not_finite = 0;  ///< 1 + the sender's first parameter that was not finite in this round; 0: all were finite
    std::uint64_t reserved = 0;
};

bool is_named(const std::string &name, const std::string &patterns) {
    for (std::size_t begin = 0; begin <= patterns.size();) {
        const std::size_t end = std::min(patterns.find(',', begin), patterns.size());
        if (end != begin && matches(name, patterns.substr(begin, end - begin))) return true;
        begin = end + 1;
    }
    return false;
}

GossipTrainer::GossipTrainer(const pcclTrainerConfig_t &config, std::unique_ptr<Collectives> collectives,
                             std::vector<Parameter> parameters)
    : Trainer(config, std::move(collectives), std::move(parameters)), uncorrected_(config.uncorrected ? config.uncorrected : "") {
    status_.push_weight = pushes_sums() ? 1.0 : 0.0;
}

/// A message in flight is read from this trainer's memory until its outcome is known.
GossipTrainer::~GossipTrainer() { settle_posts(PCCL_FOREVER); }

Outcome GossipTrainer::open() {
    static_assert(sizeof(Header) == kHeaderFloats * sizeof(float));
    PCCL_TRAIN_TRY(Trainer::open());
    for (const Parameter &p : parameters_)
        corrected_.push_back(config_.variance != pcclVarianceNone && p.count > 1 && !is_named(p.name, uncorrected_));
    variances_.assign(parameters_.size(), 0.0);
    std::fill_n(state_.sum, state_.size, 0.0);
    return {};
}

Outcome GossipTrainer::advance(bool) {
    ++state_.counters.inner_steps;
    ++state_.counters.age;
    if (++since_ < config_.sync_every) return {};
    since_ = 0;
    PCCL_TRAIN_TRY(round());
    return boundary();
}

Outcome GossipTrainer::round() {
    PCCL_TRAIN_TRY(capture());
    {
        const Stopwatch blocked(status_.blocked_s);
        settle_posts(config_.merge == pcclMergeSynchronous ? PCCL_FOREVER : 0);
    }
    // A failure here means that this peer is out of the run, which boundary() detects.
    const std::uint64_t epoch = neighbours_epoch_;
    static_cast<void>(collectives_->exchange()->neighbours(neighbours_, neighbours_epoch_));
    unsettled_ |= neighbours_epoch_ != epoch;
    push();
    {
        const Stopwatch blocked(status_.blocked_s);
        collect();
    }
    if (interrupted_) return {pcclRankConnectionLost, "pcclTrainerInterrupt was called"};
    unsettled_ &= in_step_ < expected();
    merge();
    ++round_;
    return {};
}

/// True if inner steps have made a parameter that is not finite. Stores it in `not_finite_`.
bool GossipTrainer::find_not_finite() {
    not_finite_ = 0;
    float *scratch = state_.incoming + kHeaderFloats;
    for (const Piece &piece : layout_.fragments.front().pieces) {
        const Parameter &p = parameters_[piece.parameter];
        if (pushes_sums())
            difference(p.type, state_.parameters + piece.flat, p.at(piece.first), scratch, piece.count);
        else
            train::load(p.type, p.at(piece.first), scratch, piece.count);
        const std::size_t first = first_not_finite(scratch, piece.count);
        if (first == piece.count) continue;
        not_finite_ = piece.parameter + 1;
        note_not_finite(collectives_->self(), piece.parameter,
                        "the model of this peer is not finite: " + words_of(layout_.fragments.front(), piece.flat + first) +
                            " is infinite or not a number. Its inner steps since the last round are discarded");
        return true;
    }
    return false;
}

/// Takes over the parameters that the inner steps have changed.
Outcome GossipTrainer::capture() {
    status_.left_out = find_not_finite();
    if (status_.left_out) {
        ++streak_;
        state_.counters.age -= std::min<std::uint64_t>(state_.counters.age, config_.sync_every);
        if (config_.non_finite == pcclNonFiniteFail)
            return invalid("'" + parameters_[not_finite_ - 1].name + "' is infinite or not a number");
        return {};
    }
    streak_ = 0;
    for (const Piece &piece : layout_.fragments.front().pieces) {
        const Parameter &p = parameters_[piece.parameter];
        float *own = state_.parameters + piece.flat;
        if (pushes_sums()) {  // x += change: the steps of every peer count equally in the sum of all x, whatever its weight
            float *change = state_.incoming + kHeaderFloats;
            difference(p.type, own, p.at(piece.first), change, piece.count);
            add(state_.sum + piece.flat, change, -1.0, piece.count);
        }
        train::load(p.type, p.at(piece.first), own, piece.count);
    }
    return {};
}

/// Gets the outcomes of posts that arrive within `timeout_ms`.
void GossipTrainer::settle_posts(std::uint32_t timeout_ms) {
    std::vector<std::uint64_t> open;
    for (const std::uint64_t number : posts_) {
        Outcome outcome;
        do {
            outcome = collectives_->exchange()->await_post(number, timeout_ms);
        } while (outcome.code == pcclTimeout && timeout_ms == PCCL_FOREVER);  // after an abort the message is still being read
        if (outcome.code == pcclTimeout) {
            open.push_back(number);
        } else if (outcome.ok()) {
            if (!posted_notice_) ++status_.models_sent;
            status_.tx_bytes += posted_bytes();
        } else {
            take_back();
        }
    }
    posts_ = std::move(open);
}

std::size_t GossipTrainer::posted_bytes() const { return posted_notice_ ? sizeof(Header) : message_bytes(); }

void GossipTrainer::take_back() {
    if (posted_notice_) return;
    ++status_.models_undelivered;
    if (!pushes_sums()) return;
    add(state_.sum, state_.outgoing + kHeaderFloats, 1.0, state_.size);
    push_weight_ += shared_weight_;
}

std::vector<pcclPeerId_t> GossipTrainer::choose(const std::vector<pcclPeerId_t> &neighbours) const {
    if (neighbours.empty() || config_.partners == pcclPartnersAll) return neighbours;
    std::uint64_t turn = round_;
    if (config_.partners == pcclPartnersOne) {  // the choice depends on the neighbours
        turn = XXH3_64bits_withSeed(neighbours.data(), neighbours.size() * sizeof(pcclPeerId_t),
                                    XXH3_64bits_withSeed(&round_, sizeof round_, generation_));
    }
    return {neighbours[turn % neighbours.size()]};
}

/// Fills the outgoing message with the model or, in push-sum, with `share` of the numerator and of the weight.
void GossipTrainer::fill_message(double share) {
    float *model = state_.outgoing + kHeaderFloats;
    if (pushes_sums())
        narrow(state_.sum, share, model, state_.size);
    else
        std::copy_n(state_.parameters, state_.size, model);
    shared_weight_ = push_weight_ * share;
    posted_notice_ = not_finite_ != 0 && !pushes_sums();
    const Header header{
        kFirstTag, generation_, round_, state_.counters.age, shared_weight_, posted_notice_ ? 0 : state_.size, not_finite_, 0};
    std::memcpy(state_.outgoing, &header, sizeof header);
}

bool GossipTrainer::post_to(const pcclPeerId_t &to, std::uint32_t timeout_ms) {
    std::uint64_t number = 0;
    const auto outcome = collectives_->exchange()->post(to, tag_of(round_), state_.outgoing, posted_bytes(), timeout_ms, number);
    if (outcome.ok()) posts_.push_back(number);
    return outcome.ok();
}

/// The tags alternate, so that a model of the next round is not received before the models of this round.
std::uint64_t GossipTrainer::tag_of(std::uint64_t round) const {
    return kFirstTag + (config_.merge == pcclMergeSynchronous ? round % kTags : 0);
}

void GossipTrainer::push() {
    if (!posts_.empty()) return;  // slow neighbours have not received the previous model yet
    const auto partners = choose(neighbours_);
    if (partners.empty()) return;
    const double share = 1.0 / static_cast<double>(partners.size() + 1);
    if (pushes_sums() && push_weight_ * share < kSmallestWeight) return;
    fill_message(share);
    for (const pcclPeerId_t &to : partners) {
        if (!post_to(to, config_.exchange_wait_ms) || !pushes_sums()) continue;
        add(state_.sum, state_.outgoing + kHeaderFloats, -1.0, state_.size);
        push_weight_ -= shared_weight_;
    }
}

/// The number of models that a peer receives in a round without losses. In every graph it equals the number that it pushes.
std::size_t GossipTrainer::expected() const {
    if (config_.partners == pcclPartnersAll) return neighbours_.size();
    return neighbours_.empty() ? 0 : 1;
}

void GossipTrainer::collect() {
    const bool waits = config_.merge == pcclMergeSynchronous;
    Clock &clock = collectives_->clock();
    const auto deadline = clock.now() + milliseconds(waits ? config_.exchange_wait_ms : 0);
    const std::size_t enough = expected();
    in_step_ = 0;
    Header late;
    while (waits && round_ != 0 && receive(tag_of(round_ - 1), 0, late) == Got::message)
        absorb(std::exchange(late, {}));
    while (!interrupted_) {
        const bool enough_came = !waits || in_step_ >= enough;
        const auto left = std::chrono::duration_cast<milliseconds>(deadline - clock.now()).count();
        const auto timeout = enough_came || left <= 0 ? 0U : static_cast<std::uint32_t>(std::min<std::int64_t>(left, kSlice));
        Header header;
        const Got got = receive(tag_of(round_), timeout, header);
        if (got == Got::message) {
            if (absorb(header) && header.generation == generation_ && header.round >= round_) ++in_step_;
        } else if (got == Got::no_more || timeout == 0) {
            return;
        } else {
            std::vector<pcclPeerId_t> now;
            std::uint64_t epoch = neighbours_epoch_;
            if (!collectives_->exchange()->neighbours(now, epoch).ok() || epoch != neighbours_epoch_) return;
            if (unsettled_ && somebody_is_ahead()) return;
        }
    }
}

/// True if a neighbour is a round ahead. A new neighbour may then have pushed its model of this round to others, and waiting for
/// it is useless.
bool GossipTrainer::somebody_is_ahead() {
    pcclMessageInfo_t info{};
    return collectives_->exchange()->receive(tag_of(round_ + 1), nullptr, 0, 0, info).code == pcclInvalidArgument &&
           info.bytes > 0;
}

GossipTrainer::Got GossipTrainer::receive(std::uint64_t tag, std::uint32_t timeout_ms, Header &header) {
    Exchange &exchange = *collectives_->exchange();
    pcclMessageInfo_t info{};
    const auto outcome = exchange.receive(tag, state_.incoming, message_bytes(), timeout_ms, info);
    if (outcome.code == pcclInvalidArgument && info.bytes > message_bytes()) {  // too large: discard it
        std::vector<std::byte> other(info.bytes);
        if (exchange.receive(tag, other.data(), other.size(), 0, info).ok())
            refuse("it has " + std::to_string(info.bytes) + " bytes");
        return Got::message;
    }
    if (!outcome.ok()) return outcome.code == pcclTimeout || outcome.code == pcclRankConnectionLost ? Got::nothing : Got::no_more;
    status_.rx_bytes += info.bytes;
    from_ = info.from;
    if (info.bytes >= sizeof header) std::memcpy(static_cast<void *>(&header), state_.incoming, sizeof header);
    const bool marked = header.magic == kFirstTag && header.elements == 0 && header.not_finite != 0;
    const bool is_notice = info.bytes == sizeof header && marked && !pushes_sums();
    if (info.bytes != message_bytes() && !is_notice) {
        header = {};
        refuse("it has " + std::to_string(info.bytes) + " bytes");
    }
    return Got::message;
}

bool GossipTrainer::refuse(const std::string &why) {
    ++status_.models_refused;
    pcclLogWarning(("the model of " + sender() + " was refused: " + why).c_str());
    return false;
}

/// Counts a neighbour's report that its model is not finite. True if the message is such a notice and not a model.
bool GossipTrainer::hear_notice(const Header &header) {
    if (header.not_finite == 0 || header.not_finite > parameters_.size()) return false;
    const std::size_t parameter = header.not_finite - 1;
    note_not_finite(number_of(from_), parameter,
                    "the model of " + sender() + " is not finite: '" + parameters_[parameter].name +
                        "' is infinite or not a number. Its inner steps since its last round are discarded");
    if (header.elements != 0) return false;
    ++status_.models_refused;
    return true;
}

/// Adds the received model to the sum. False if the message is neither a model nor a notice.
bool GossipTrainer::absorb(const Header &header) {
    if (header.magic == 0) return false;  // refused already
    if (header.magic == kFirstTag && hear_notice(header)) return true;
    const bool weight_is_sound = !pushes_sums() || (std::isfinite(header.weight) && header.weight > 0.0);
    if (header.magic != kFirstTag || header.elements != state_.size || !weight_is_sound)
        return refuse("its header does not match this method and model");
    const float *model = state_.incoming + kHeaderFloats;
    std::vector<double> variances(parameters_.size());
    for (const Piece &piece : layout_.fragments.front().pieces) {
        const Moments m = moments(model + piece.flat, piece.count);
        if (!std::isfinite(m.mean) || !std::isfinite(m.variance)) {
            note_not_finite(number_of(from_), piece.parameter, "a received model is not finite");
            return refuse("'" + parameters_[piece.parameter].name +
                          "' is infinite or not a number: training has diverged at the sender");
        }
        variances[piece.parameter] = m.variance;
    }
    ++status_.models_received;
    ++merged_now_;
    if (pushes_sums()) {
        for (const Piece &piece : layout_.fragments.front().pieces)
            add(state_.sum + piece.flat, model + piece.flat, 1.0, piece.count);
        push_weight_ += header.weight;
        return true;
    }
    const double weight = config_.weigh_by_age ? static_cast<double>(std::max<std::uint64_t>(header.age, 1)) : 1.0;
    for (const Piece &piece : layout_.fragments.front().pieces)
        add(state_.sum + piece.flat, model + piece.flat, weight, piece.count);
    for (std::size_t i = 0; i < variances.size(); ++i)
        variances_[i] += weight * variances[i];
    weights_ += weight;
    oldest_age_ = std::max(oldest_age_, header.age);
    return true;
}

/// Makes the new model from the received ones. The variance to restore is computed before the models are mixed.
void GossipTrainer::merge() {
    const bool enough = config_.merge != pcclMergeAfterAll || merged_now_ >= std::max<std::size_t>(expected(), 1);
    const Fragment &fragment = layout_.fragments.front();
    if (!pushes_sums() && (merged_now_ == 0 || !enough)) {
        if (not_finite_ != 0) publish(fragment);
        return;
    }
    if (not_finite_ != 0 && merged_now_ != 0 && streak_ >= kStaleRounds) {
        status_.events |= PCCL_TRAINER_STATE_RECEIVED;
        streak_ = 0;
    }
    if (pushes_sums()) {
        quotient(state_.sum, push_weight_, state_.parameters, state_.size);
    } else {
        const auto age = static_cast<double>(std::max<std::uint64_t>(state_.counters.age, 1));
        double own = config_.weigh_by_age ? age / (age + weights_) : static_cast<double>(config_.own_weight);
        if (not_finite_ != 0) own = 0.0;
        for (const Piece &piece : fragment.pieces) {
            const std::size_t i = piece.parameter;
            float *model = state_.parameters + piece.flat;
            double *mix = state_.sum + piece.flat;
            if (not_finite_ != 0) std::fill_n(model, piece.count, 0.0F);
            const double before = corrected_[i] ? moments(model, piece.count).variance : 0.0;
            average(mix, model, own, (1.0 - own) / weights_, piece.count);
            const double others = variances_[i] / weights_;
            double target = others;
            if (config_.variance == pcclVarianceOfOwn && not_finite_ == 0) target = before;
            if (config_.variance == pcclVarianceWeighted) target = own * before + (1.0 - own) * others;
            if (corrected_[i]) rescale(mix, target, piece.count);
            narrow(mix, 1.0, model, piece.count);
        }
        state_.counters.age = std::max(state_.counters.age, oldest_age_);
        std::fill_n(state_.sum, state_.size, 0.0);
        std::ranges::fill(variances_, 0.0);
        weights_ = 0.0;
        oldest_age_ = 0;
    }
    status_.contributors = static_cast<std::uint32_t>(merged_now_ + 1);
    merged_now_ = 0;
    publish(fragment);
    ++state_.counters.outer_steps;
    status_.events |= PCCL_TRAINER_OUTER_STEP;
    if (config_.verify_every != 0 && state_.counters.outer_steps % config_.verify_every == 0) status_.digest = state_.digest();
}

Outcome GossipTrainer::boundary() {
    status_.push_weight = pushes_sums() ? push_weight_ : 0.0;
    const Stopwatch blocked(status_.blocked_s);
    bool wait = false;
    PCCL_TRAIN_TRY(membership_->newcomers_wait(wait));
    saw(collectives_->world());
    if (!wait) return {};
    bool grown = false;
    PCCL_TRAIN_TRY(membership_->admit(grown));
    Agreed agreed;
    PCCL_TRAIN_TRY(membership_->settle(agreed));
    return note(agreed);
}

Outcome GossipTrainer::settled(const Agreed &agreed) {
    since_ = round_ = 0;
    generation_ = membership_->revision();
    Exchange &exchange = *collectives_->exchange();
    if (agreed.newcomer) {
        publish_all();
        // The newcomer adds a copy with weight 1, which increases the sum of all models and the sum of all weights.
        std::fill_n(state_.sum, state_.size, 0.0);
        if (pushes_sums()) add(state_.sum, state_.parameters, 1.0, state_.size);
        push_weight_ = 1.0;
        status_.push_weight = pushes_sums() ? 1.0 : 0.0;
        PCCL_TRAIN_TRY(exchange.limit_mailbox(std::max(kSmallestMailbox, kMailboxModels * message_bytes()), 4096));
    }
    pcclGraphOptions_t graph{};
    graph.kind = config_.graph;
    if (config_.graph == pcclGraphRandomRegular || config_.graph == pcclGraphBarabasiAlbert) graph.degree = config_.graph_degree;
    graph.seed = config_.graph_seed;
    return exchange.set_graph(graph);
}

void GossipTrainer::abandon() {
    settle_posts(PCCL_FOREVER);
    membership_->outdated();
    std::fill_n(state_.sum, state_.size, 0.0);
    std::ranges::fill(variances_, 0.0);
    weights_ = 0.0;
    merged_now_ = 0;
    oldest_age_ = 0;
}

Outcome GossipTrainer::conclude() {
    const Stopwatch blocked(status_.blocked_s);
    PCCL_TRAIN_TRY(capture());
    not_finite_ = 0;  // the model that is handed over is finite
    if (pushes_sums()) {
        hand_over();
    } else {
        settle_posts(PCCL_FOREVER);
    }
    return {};
}

/// Push-sum: a peer that ends sends its share of the sum to a neighbour. Otherwise the others would lose the steps in that share.
void GossipTrainer::hand_over() {
    Exchange &exchange = *collectives_->exchange();
    if (!exchange.limit_mailbox(1, 1).ok()) return;  // the mailbox now accepts no message, and others keep their shares
    settle_posts(PCCL_FOREVER);
    for (std::uint64_t tag = 0; tag < (config_.merge == pcclMergeSynchronous ? kTags : 1); ++tag) {
        Header header;
        while (receive(tag_of(tag), kSlice / 5, header) == Got::message) {
            absorb(header);
            header = {};
        }
    }
    quotient(state_.sum, push_weight_, state_.parameters, state_.size);
    if (!exchange.neighbours(neighbours_, neighbours_epoch_).ok()) return;
    for (const pcclPeerId_t &to : neighbours_) {
        fill_message(1.0);
        const auto before = status_.models_undelivered;
        if (!post_to(to, config_.exchange_wait_ms)) continue;
        add(state_.sum, state_.outgoing + kHeaderFloats, -1.0, state_.size);
        push_weight_ -= shared_weight_;
        settle_posts(PCCL_FOREVER);
        if (status_.models_undelivered == before) break;
    }
    status_.push_weight = push_weight_;
}

}  // namespace pccl::train
