// See recovery.h.
#include "protocol/recovery.h"

#include <algorithm>

#include "base/assert.h"
#include "protocol/carry.h"

namespace pccl::protocol {

using wire::Call;
using wire::RecoveryReport;

RecoveryReports Recovery::present() const {
    RecoveryReports present = reports_;
    for (const PeerId id : left_)
        present.erase(id);
    return present;
}

bool well_formed(const RecoveryReport &report, ViewNumber view, ViewNumber epoch) {
    return report.view <= view && report.epoch <= epoch && report.recent.size() <= report.commits &&
           std::ranges::all_of(report.frozen, [](const auto &frozen) { return well_formed(frozen.carried); });
}

GroupKnowledge merge_group(ViewNumber epoch, const wire::CallOutcome &outcome, const RecoveryReports &reports) {
    GroupKnowledge known;
    known.outcome = outcome;
    std::set<OpId> committed;
    for (const auto &[from, report] : reports) {
        if (report.group_outcome.decision > known.outcome.decision) known.outcome = report.group_outcome;
        if (report.epoch != epoch) continue;  // its counters are those of an earlier epoch
        known.commit_count = std::max(known.commit_count, report.commits);
        // `recent` ends with the last commit received, so its first has this number.
        std::uint64_t number = report.commits - report.recent.size();
        for (const auto &commit : report.recent) {
            committed.insert(commit.ops.begin(), commit.ops.end());
            known.commits.try_emplace(number++, commit);
        }
        for (const auto &forgotten : report.forgotten) {
            if (!known.forgotten || known.forgotten->round < forgotten.round) known.forgotten = forgotten;
        }
        for (const auto &failed : report.failures) {
            if (failed.op.epoch == epoch) known.failures.try_emplace(failed.op, failed);
        }
    }
    for (const auto &[from, report] : reports) {
        if (report.epoch != epoch) continue;
        for (const OpId &op : report.done) {
            if (op.epoch == epoch && !committed.contains(op) && !known.failures.contains(op)) known.done[op].insert(from);
        }
    }
    return known;
}

std::vector<wire::ToPeer> missed_decisions(const RecoveryReport &report, ViewNumber epoch, const GroupKnowledge &known) {
    std::vector<wire::ToPeer> missed;
    if (report.epoch != epoch) return missed;
    const std::uint64_t received_round = report.forgotten.empty() ? 0 : report.forgotten.front().round;
    if (known.forgotten && received_round < known.forgotten->round) missed.emplace_back(*known.forgotten);
    for (auto it = known.commits.lower_bound(report.commits); it != known.commits.end(); ++it)
        missed.emplace_back(it->second);
    std::set<OpId> received;
    for (const auto &failed : report.failures)
        received.insert(failed.op);
    for (const auto &[op, failed] : known.failures) {
        if (!received.contains(op)) missed.emplace_back(failed);
    }
    return missed;
}

std::optional<wire::ToPeer> missed_outcome(const RecoveryReport &report, std::uint64_t generation, const wire::CallOutcome &run,
                                           const wire::CallOutcome &group) {
    if (report.open == Call::connect) return wire::CallDone{Call::connect, 0, pcclSuccess, generation, "", run.decision};
    if (report.aborted) return std::nullopt;  // the call that the others ended is not the one that the member is in
    if (report.open == run.kind && report.run_outcome.decision < run.decision)
        return wire::CallDone{run.kind, report.open_number, run.code, generation, run.why, run.decision};
    const bool missed = report.group_outcome.decision < group.decision && report.epoch <= group.epoch;
    if (report.open != Call::sync_shared_state || !missed) return std::nullopt;
    if (group.code == pcclSuccess) return wire::SyncCommit{report.open_number, group.sync, group.revision, group.decision};
    return wire::CallDone{group.kind, report.open_number, group.code, generation, group.why, group.decision};
}

}  // namespace pccl::protocol
