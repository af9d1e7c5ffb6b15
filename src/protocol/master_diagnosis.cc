// Members that delay others (diagnosis.h): the master logs them, sends a Notice to their group and, if so configured, removes
// them.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;

void Master::on(Peer &peer, const wire::ProgressReport &report) { diagnosis_.report(now_, peer.id, report); }

/// Adds a call of all of `members` if some are in it and others are not.
void Master::add_call(Snapshot &snapshot, Call call, const std::vector<PeerId> &members) const {
    Snapshot::Wait wait{wire::name_of(call), {}, {}, members.size()};
    for (const PeerId id : members) {
        const CallBoard::Calls &calls = calls_.of(id);
        if (calls.call == call)
            wait.waiting.emplace_back(id, now_ - calls.since);
        else
            wait.missing.push_back(id);
    }
    if (!wait.waiting.empty() && !wait.missing.empty()) snapshot.waits.push_back(std::move(wait));
}

/// Adds the operations of a group in which a thread of some member waits.
void Master::add_operations(Snapshot &snapshot, const Group &group, const std::vector<PeerId> &members) const {
    std::map<OpId, std::map<PeerId, Duration>> awaited;
    for (const PeerId id : members) {
        for (const auto &op : diagnosis_.ops_of(now_, id)) {
            if (op.awaited && calls_.of(id).waiting.contains(op.op)) awaited[op.op][id] = std::chrono::milliseconds(op.open_ms);
        }
    }
    for (const auto &[op, waiting] : awaited) {
        Snapshot::Wait wait{
            "pcclAllReduce with tag " + std::to_string(op.tag.value), {waiting.begin(), waiting.end()}, {}, members.size()};
        const auto done = group.done.find(op);
        for (const PeerId id : members) {
            const bool entered = calls_.of(id).waiting.contains(op) || (done != group.done.end() && done->second.contains(id));
            if (!entered) wait.missing.push_back(id);
        }
        if (wait.missing.empty())
            snapshot.entered.push_back(op);
        else
            snapshot.waits.push_back(std::move(wait));
    }
}

Snapshot Master::snapshot() const {
    Snapshot snapshot;
    std::map<GroupId, std::vector<PeerId>> members;
    std::vector<PeerId> all;
    for (const auto &[id, peer] : peers_) {
        if (!peer.member) continue;
        members[peer.group].push_back(id);
        all.push_back(id);
        const bool waits = calls_.of(id).call != Call::none || calls_.of(id).blocked == wire::Blocked::all;
        snapshot.members.push_back(
            {id, peer.group, to_string(id) + " at " + pccl::to_string(peer.address), now_ - peer.last_heard, waits});
    }
    for (const Call call : {Call::update_topology, Call::optimize_topology})
        add_call(snapshot, call, all);
    for (const auto &[id, ids] : members) {
        const Group &group = groups_.at(id);
        if (group.freeze) continue;
        add_call(snapshot, Call::sync_shared_state, ids);
        add_operations(snapshot, group, ids);
    }
    return snapshot;
}

/// Runs once per heartbeat. Costs little while no member waits.
void Master::diagnose() {
    const Snapshot now = snapshot();
    const Duration half = options_.heartbeat_timeout / 2;
    const auto findings = diagnosis_.findings(now_, now, {half, half, options_.straggler_after, options_.straggler_after});
    for (const auto &line : alarms_.update(now_, findings)) {
        log(LogLevel::warn, line.text);
        const auto about = peers_.find(line.about);
        for (const auto &[id, peer] : peers_) {
            if (peer.member && (about == peers_.end() || peer.group == about->second.group)) send(peer, wire::Notice{line.text});
        }
    }
    if (options_.remove_stragglers_after == Duration(0)) return;
    for (const Finding &finding : findings) {
        if (finding.kind != Finding::Kind::straggler || finding.lasting < options_.remove_stragglers_after) continue;
        remove(finding.who, pcclMasterConnectionFailed,
               finding.what + " and was removed: this master is configured to do so after " +
                   pccl::to_string(options_.remove_stragglers_after) + ": " + finding.evidence);
    }
}

}  // namespace pccl::protocol
