// Recovery after a master restart: combines the knowledge of the members that come back.
//
// The journal gives the members and their view. The members together know every later decision. The last master sent every
// decision to all members in one order, so the member that received most has received everything that any member that came back
// has received. The master sends the others the rest. A decision that no member received has no effect:
//   - An operation is committed if a member received its Commit, or if every member that came back holds its result. A Commit to
//     a member that did not come back was sent only when all members held the result.
//   - A call of all members has ended if a member received its end. Otherwise the master decides it again when all members have
//     sent their votes again.
//   - A member that does not come back within the recovery window is lost, which leads to a new view as every loss does.
//
// Guarantee: for one set of reports the outcome is the same in whatever order they arrived, and missed_decisions() with
// missed_outcome() bring every member to the state of the one that received most. Invariant: a member that left has no part in
// the outcome, even if it reported before. Pure. The master's thread runs it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "wire/messages.h"

namespace pccl::protocol {

using RecoveryReports = std::map<PeerId, wire::RecoveryReport>;

/// The reports of the members that come back, as they arrive.
class Recovery {
public:
    void start(Time deadline) { deadline_ = deadline; }
    bool started() const { return deadline_ != Time{}; }
    Time deadline() const { return deadline_; }

    void report(PeerId id, const wire::RecoveryReport &report) { reports_[id] = report; }
    /// The member came back and then left the run.
    void leave(PeerId id) { left_.insert(id); }
    /// Its connection ended. It can come back again while the window is open.
    void disconnect(PeerId id) { reports_.erase(id); }
    bool has_left(PeerId id) const { return left_.contains(id); }
    bool is_settled(PeerId id) const { return reports_.contains(id) || left_.contains(id); }

    /// The reports of the members that came back and did not leave.
    RecoveryReports present() const;

private:
    Time deadline_;
    RecoveryReports reports_;
    std::set<PeerId> left_;
};

/// False for a report that contradicts itself, or names a later view or epoch than the journal.
bool well_formed(const wire::RecoveryReport &report, ViewNumber view, ViewNumber epoch);

/// The combined knowledge of a group's members about the group's current epoch.
struct GroupKnowledge {
    std::uint64_t commit_count = 0;                 ///< Commit messages of the epoch
    std::map<std::uint64_t, wire::Commit> commits;  ///< by number from 0; includes all that some member has not received
    std::map<OpId, wire::OpFailed> failures;
    std::map<OpId, std::set<PeerId>> done;      ///< members that hold the result, of operations without an outcome
    std::optional<wire::ForgetTags> forgotten;  ///< the last one that any of them received
    wire::CallOutcome outcome;                  ///< of the last synchronization
};
/// `reports`: the reports of the group's members. `outcome`: the one in the journal.
GroupKnowledge merge_group(ViewNumber epoch, const wire::CallOutcome &outcome, const RecoveryReports &reports);

/// The commits, failures and forgotten tags that the member has not received. Nothing if it is in another epoch.
std::vector<wire::ToPeer> missed_decisions(const wire::RecoveryReport &report, ViewNumber epoch, const GroupKnowledge &known);
/// The end of the call that the member is in, if other members received it.
std::optional<wire::ToPeer> missed_outcome(const wire::RecoveryReport &report, std::uint64_t generation,
                                           const wire::CallOutcome &run, const wire::CallOutcome &group);

}  // namespace pccl::protocol
