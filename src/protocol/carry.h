// Decides which calls of an epoch that ended continue in the next one (pcclLossPolicyRepair) and which fail. Pure.
#pragma once

#include <map>
#include <vector>

#include "base/ids.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// The outcome of the calls that were not committed.
struct EpochOutcome {
    std::vector<wire::TagCount> begun;  ///< calls that fail at every member: those below these numbers
    std::vector<wire::RepairedOp> repaired;
};

/// `begun`: calls that some member had begun and does not carry over. `carried`: the calls that each member of the next ring
/// carries over.
///
/// A call continues if it is the last one that any member has begun with its tag, and every member that began it carries it over.
/// Callers can disagree about the policy, and one can have aborted. Members that have not made the call yet join it in the new
/// epoch. Earlier calls with the tag failed at the other members, so they also fail at members that have not made them; the
/// number of the call that continues determines which calls these are.
EpochOutcome end_calls(const std::map<Tag, std::uint32_t> &begun, const std::map<PeerId, std::vector<wire::CarriedOp>> &carried);

/// True if a correct member can send this list.
bool well_formed(const std::vector<wire::CarriedOp> &carried);

}  // namespace pccl::protocol
