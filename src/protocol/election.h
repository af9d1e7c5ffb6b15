// Elects the content of a shared-state synchronization, and plans which peer pulls which tensor from which peers. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// A group's last synchronization.
struct SyncHistory {
    bool synced = false;
    std::uint64_t revision = 0;
    std::vector<wire::TensorOffer> schema;  ///< names, types and counts; its hashes have no meaning
};

struct Ballot {
    PeerId peer;
    const wire::OfferState *offer = nullptr;
    bool in_last_sync = false;  ///< took part in the synchronization of SyncHistory
    /// Its content was partly overwritten since it was offered: it cannot be elected, and the peer pulls everything.
    bool tainted = false;

    /// Whether its content can be elected and sent to others.
    bool can_send() const { return !tainted && offer->strategy != wire::Strategy::receive_only; }
};

struct Violation {
    PeerId peer;
    std::string why;
};

struct Receiver {
    PeerId peer;
    bool in_place = false;
    std::vector<wire::PullTensor> pull;
};

/// Exactly one of three: violations (remove these and elect again), a failure for all, or a plan.
struct Election {
    std::vector<Violation> violations;
    Status failure;
    std::uint64_t revision = 0;
    std::vector<Receiver> receivers;  ///< peers that lack some content; empty if all agree
};

/// `ballots` in order of peer id, not empty.
///
/// All offers must have one schema. The expected revision is the last synchronized one plus 1, or a higher one that all members
/// of the last synchronization offer; in a group's first synchronization it is the highest one offered. A higher revision than
/// the expected one breaks the rule. RECEIVE_ONLY offers are exempt from the rule and are never elected.
///
/// The elected revision is the expected one, or if no peer offers that (the program does not count, or every holder was lost),
/// the highest one that a member of the last synchronization offers. A SEND_ONLY offer must be at that revision. Among the offers
/// at that revision SEND_ONLY ones win (and must agree), otherwise the most common content wins; of equally common contents, the
/// one of the peer with the lowest id wins. Every other peer receives what differs. A peer that is behind receives all that
/// differs and the elected revision, whether it is a newcomer or a member.
Election elect(const SyncHistory &history, const std::vector<Ballot> &ballots);

}  // namespace pccl::protocol
