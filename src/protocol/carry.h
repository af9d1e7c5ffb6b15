// Which calls of an epoch that ended go on in the next one (pcclLossPolicyRepair), and which fail. Pure.
#pragma once

#include <map>
#include <vector>

#include "base/ids.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// What becomes of the calls that were not committed.
struct EpochOutcome {
    std::vector<wire::TagCount> begun;      ///< failed at all, up to these numbers
    std::vector<wire::RepairedOp> repaired;
};

/// `begun`: calls that some member had begun and that do not go on there. `carried`: what each member of the next ring would go on with.
///
/// A call goes on if it is the last that anybody has begun with its tag and all who have begun it want it to: its callers may disagree,
/// or one may have given it up. Members that have not made it yet will meet it in the new epoch. Calls before it failed where they
/// were not made, as they did elsewhere; that follows from its number.
EpochOutcome end_calls(const std::map<Tag, std::uint32_t> &begun, const std::map<PeerId, std::vector<wire::CarriedOp>> &carried);

/// Whether a member may say this of itself.
bool well_formed(const std::vector<wire::CarriedOp> &carried);

}  // namespace pccl::protocol
