// See train/membership.h.
#include "train/membership.h"

#include <algorithm>
#include <utility>

namespace pccl::train {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(20);    // while waiting for peers
constexpr auto kRetry = std::chrono::milliseconds(250);  // while the master cannot be reached

const Outcome kInterrupted{pcclRankConnectionLost, "pcclTrainerInterrupt was called"};

}  // namespace

Membership::Membership(Collectives &collectives, Agreement &agreement, const std::atomic<bool> &interrupted,
                       MembershipOptions options, State state)
    : collectives_(collectives), agreement_(agreement), interrupted_(interrupted), options_(options), state_(std::move(state)),
      question_(
          collectives.worker(), [this](bool &wait) { return ask(wait); },
          [this] {
              dropped_ = true;
              collectives_.abort();
          }) {}

Outcome Membership::connect(Clock::Time deadline) {
    for (;;) {
        if (interrupted_) return kInterrupted;
        auto outcome = collectives_.connect();
        if (outcome.ok()) return outcome;
        if (interrupted_) return kInterrupted;
        const bool may_pass = outcome.code == pcclMasterConnectionFailed || outcome.code == pcclRankConnectionFailed ||
                              outcome.code == pcclRankConnectionLost;
        if (!may_pass || collectives_.clock().now() + kRetry > deadline) return outcome;
        collectives_.clock().pause(kRetry);
    }
}

Outcome Membership::join(Agreed &agreed, bool usable) {
    const auto deadline = collectives_.clock().now() + options_.rejoin;
    drop_question();
    for (;;) {
        if (!collectives_.connected()) PCCL_TRAIN_TRY(connect(deadline));
        if (options_.founder_leads && collectives_.world() == 1) revision_ = std::max<std::uint64_t>(revision_, 1);
        if (!agreement_.alone()) prefer_the_runs();
        newcomer_ = unsynchronized_ = true;
        usable_ = usable;
        takes_ = !usable;
        auto outcome = settle(agreed);
        if (outcome.ok()) return outcome;
        // Among members of other revisions, a loaded state breaks the rule of revisions. As the state of a newcomer it does not.
        const bool out_of_turn = outcome.code == pcclInvalidUsage && loaded_ && !collectives_.connected();
        const bool fell_out =
            outcome.code == pcclMasterConnectionFailed && collectives_.clock().now() < deadline && options_.rejoin.count() > 0;
        if (out_of_turn) {
            loaded_ = false;
            revision_ = 0;
        } else if (!fell_out) {
            return outcome;
        }
    }
}

void Membership::drop_question() {
    question_.drop();
    dropped_ = false;
}

/// A process of an island cannot leave and rejoin when its loaded state breaks the rule of revisions. It therefore offers that
/// state only to an empty run.
void Membership::prefer_the_runs() {
    if (!loaded_ || collectives_.world() < 2) return;
    loaded_ = false;
    revision_ = 0;
}

Outcome Membership::newcomers_wait(bool &wait) {
    PCCL_TRAIN_TRY(question_.asked() ? question_.answer(wait) : ask(wait));
    return agreement_.any(Agreement::Question::newcomers, wait);
}

Outcome Membership::ask(bool &wait) {
    for (;;) {
        if (interrupted_) return kInterrupted;
        auto outcome = collectives_.are_peers_pending(wait);
        if (!lost(outcome) || dropped_) return outcome;
    }
}

Outcome Membership::admit(bool &grown) {
    grown = false;
    for (;;) {
        bool wait = false;
        PCCL_TRAIN_TRY(newcomers_wait(wait));
        if (!wait) return {};
        auto outcome = collectives_.update_topology();
        if (lost(outcome)) continue;
        if (outcome.code == pcclUpdateTopologyFailed || outcome.code == pcclTooFewPeers) return {};  // no peer was admitted
        if (outcome.ok()) grown = unsynchronized_ = true;
        return outcome;
    }
}

/// Counts members and newcomers with an operation of all members, so that each gets the same numbers.
Outcome Membership::count_members() {
    constexpr std::uint64_t kNewcomer = std::uint64_t{1} << 32U;
    std::uint64_t one = newcomer_ ? kNewcomer + 1 : 1, sum = 0;
    Reduce reduce{&one, &sum, {}, false};
    reduce.what.count = 1;
    reduce.what.op = pcclSum;
    reduce.what.tag = options_.barrier_tag;
    reduce.what.src_descriptor.datatype = pcclUint64;
    auto outcome = collectives_.launch(reduce);
    ReduceReport report;
    if (outcome.ok()) outcome = collectives_.await(reduce.what.tag, report);
    if (outcome.code == pcclTooFewPeers) {
        world_ = 1;
        founding_ = false;
        return {};
    }
    if (outcome.ok()) {
        world_ = static_cast<std::uint32_t>(sum % kNewcomer);
        founding_ = sum / kNewcomer == world_;
    }
    return outcome;
}

Outcome Membership::settle(Agreed &agreed) {
    for (bool first = true;; first = false) {
        if (interrupted_) return kInterrupted;
        auto outcome = count_members();
        if (lost(outcome)) continue;
        if (!outcome.ok()) return outcome;
        std::uint64_t islands = world_;
        PCCL_TRAIN_TRY(agreement_.smallest(Agreement::Question::world, islands));
        if (islands < options_.min_peers) {
            // The pause gives the others time to see the newcomers, and avoids a busy loop.
            if (!first) collectives_.clock().pause(kPoll);
            bool grown = false;
            PCCL_TRAIN_TRY(admit(grown));
            continue;
        }
        if (!unsynchronized_) return {};
        if (options_.optimize_topology) {
            outcome = collectives_.optimize_topology();
            if (lost(outcome)) continue;
            const bool old_ring_stays = outcome.code == pcclTooFewPeers || outcome.code == pcclTopologyOptimizationFailed;
            if (!outcome.ok() && !old_ring_stays) return outcome;
        }
        if (!takes_) return synchronize(PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, agreed);
        outcome = take(agreed);
        const bool nobody_gives = outcome.code == pcclNoSharedStateAvailable;
        if (!nobody_gives || !usable_) return outcome;
        takes_ = false;  // all members that could send their state were lost
    }
}

/// Receives the state as a peer that is behind, including the tensors in which members may differ.
Outcome Membership::take(Agreed &agreed) {
    const std::uint64_t revision = std::exchange(revision_, 0);
    auto outcome = synchronize(PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY, agreed);
    if (outcome.ok()) {
        agreed.received = usable_ = true;
        takes_ = false;
    } else {
        revision_ = revision;
    }
    return outcome;
}

Outcome Membership::synchronize(pcclSharedStateSyncStrategy_t strategy, Agreed &agreed) {
    for (;;) {
        if (interrupted_) return kInterrupted;
        auto tensors = state_();
        pcclSharedState_t state{revision_, tensors.size(), tensors.data()};
        pcclSharedStateSyncInfo_t info{};
        auto outcome = collectives_.synchronize(state, strategy, info);
        agreed.tx_bytes += info.tx_bytes;
        agreed.rx_bytes += info.rx_bytes;
        agreed.received |= info.rx_bytes > 0;
        if (lost(outcome)) continue;
        if (outcome.code == pcclNoSharedStateAvailable && strategy == PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR) continue;
        if (!outcome.ok()) return outcome;
        agreed.synchronized = true;
        agreed.newcomer = newcomer_;
        newcomer_ = founding_ = unsynchronized_ = loaded_ = false;
        revision_ = state.revision + 1;
        return {};
    }
}

}  // namespace pccl::train
