// What the master makes of members that wait: who is to blame is logged, told to the group, and, where so configured, removed.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;

void Master::on_progress(Peer &peer, const wire::Progress &progress) { diagnosis_.report(now_, peer.id, progress); }

/// A call of all members of the run or a group that some make and others do not.
void Master::add_call(Situation &situation, Call call, const std::vector<PeerId> &members) const {
    Situation::Wait wait{wire::name_of(call), {}, {}, members.size()};
    for (const PeerId id : members) {
        const Peer &peer = peers_.at(id);
        if (peer.call == call) wait.waiting.emplace_back(id, now_ - peer.call_since);
        else wait.missing.push_back(id);
    }
    if (!wait.waiting.empty() && !wait.missing.empty()) situation.waits.push_back(std::move(wait));
}

/// The operations of a group in which a thread of some member waits.
void Master::add_operations(Situation &situation, const Group &group, const std::vector<PeerId> &members) const {
    std::map<OpId, std::map<PeerId, Duration>> awaited;
    for (const PeerId id : members) {
        for (const auto &op : diagnosis_.ops_of(now_, id)) {
            if (op.awaited && peers_.at(id).waiting.contains(op.op)) awaited[op.op][id] = std::chrono::milliseconds(op.open_ms);
        }
    }
    for (const auto &[op, waiting] : awaited) {
        Situation::Wait wait{"pcclAllReduce with tag " + std::to_string(op.tag.value), {waiting.begin(), waiting.end()}, {}, members.size()};
        const auto done = group.done.find(op);
        for (const PeerId id : members) {
            const bool entered = peers_.at(id).waiting.contains(op) || (done != group.done.end() && done->second.contains(id));
            if (!entered) wait.missing.push_back(id);
        }
        if (wait.missing.empty()) situation.entered.push_back(op);
        else situation.waits.push_back(std::move(wait));
    }
}

Situation Master::situation() const {
    Situation situation;
    std::map<GroupId, std::vector<PeerId>> members;
    std::vector<PeerId> all;
    for (const auto &[id, peer] : peers_) {
        if (!peer.member) continue;
        members[peer.group].push_back(id);
        all.push_back(id);
        const bool waits = peer.call != Call::none || peer.blocked == wire::Blocked::all;
        situation.members.push_back({id, peer.group, to_string(id) + " at " + pccl::to_string(peer.address), now_ - peer.last_heard, waits});
    }
    for (const Call call : {Call::update_topology, Call::optimize_topology})
        add_call(situation, call, all);
    for (const auto &[id, ids] : members) {
        const Group &group = groups_.at(id);
        if (group.freeze) continue;
        add_call(situation, Call::sync_shared_state, ids);
        add_operations(situation, group, ids);
    }
    return situation;
}

/// Once a heartbeat. Costs nothing where nobody waits.
void Master::diagnose() {
    const Situation now = situation();
    const Duration half = options_.heartbeat_timeout / 2;
    const auto findings = diagnosis_.findings(now_, now, {half, half, options_.straggler_after, options_.straggler_after});
    for (const auto &line : alarms_.update(now_, findings)) {
        note(LogLevel::warn, line.text);
        const auto about = peers_.find(line.about);
        for (const auto &[id, peer] : peers_) {
            if (peer.member && (about == peers_.end() || peer.group == about->second.group)) send(peer, wire::Notice{line.text});
        }
    }
    if (options_.remove_stragglers_after == Duration(0)) return;
    for (const Finding &finding : findings) {
        if (finding.kind != Finding::Kind::straggler || finding.lasting < options_.remove_stragglers_after) continue;
        remove(finding.who, pcclMasterConnectionFailed,
               finding.what + " and was removed, as this master is configured to after " + pccl::to_string(options_.remove_stragglers_after) +
                   ": " + finding.evidence);
    }
}

}  // namespace pccl::protocol
