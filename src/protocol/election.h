// Which content a shared-state synchronization makes everybody's, and who pulls what from whom. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// What a group remembers of its last synchronization.
struct SyncHistory {
    bool synced = false;
    std::uint64_t revision = 0;
    std::vector<wire::TensorOffer> schema;  ///< names, types, counts; hashes of no meaning
};

struct Ballot {
    PeerId peer;
    const wire::OfferState *offer = nullptr;
    bool in_last_sync = false;  ///< took part in the synchronization that SyncHistory tells of
    bool tainted =
        false;  ///< its content was partly overwritten since it was offered: not to be elected, everything to be pulled
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
    std::vector<Receiver> receivers;  ///< those that lack something; empty when all agree
};

/// `ballots` in order of peer id, not empty.
///
/// The rules: all offers have one schema. In a group's first synchronization the highest revision offered is expected (SEND_ONLY
/// offers count alone, RECEIVE_ONLY offers never); later, the last plus one, or a higher one that all members of the last
/// synchronization offer alike. A member of the last synchronization that offers another one, and a newcomer that offers a higher
/// one, break the rule. Among the offers at the expected revision SEND_ONLY ones win (and must agree), else the most common
/// content, else the one of the lowest peer id.
Election elect(const SyncHistory &history, const std::vector<Ballot> &ballots);

}  // namespace pccl::protocol
