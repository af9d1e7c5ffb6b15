// Agreement on operations: committed when every member holds its result, failed when a member finds that it cannot be done.
#include "protocol/master.h"

namespace pccl::protocol {

void Master::on_done(Peer &peer, const wire::Done &done) {
    Group &group = groups_.at(peer.group);
    if (group.freeze) return;  // it ends with the view, at every member
    for (const OpId &op : done.ops) {
        if (op.epoch != group.epoch || group.failed.contains(op)) continue;
        peer.waiting.erase(op);
        if (!group.done[op].insert(peer.id).second) continue;
        if (++peer.open_done > wire::kMaxOpenOps) {
            return remove(peer.id, pcclInvalidUsage,
                          to_string(peer.id) + " was removed: too many operations done that nobody else has");
        }
    }
    commit_complete(group, members_of(peer.group));
}

void Master::on_waiting(Peer &peer, const wire::Waiting &waiting) {
    const Group &group = groups_.at(peer.group);
    std::set<OpId> current;
    for (const OpId &op : waiting.ops) {
        if (op.epoch == group.epoch && !group.failed.contains(op)) current.insert(op);
    }
    const bool changed = current != peer.waiting || waiting.blocked != peer.blocked;
    if (peer.waiting.empty() || changed) peer.waiting_since = now_;
    misuse_stale_ = misuse_stale_ || changed;
    peer.waiting = std::move(current);
    peer.blocked = waiting.blocked;
}

/// Commits what all of `members` hold.
void Master::commit_complete(Group &group, const std::vector<PeerId> &members) {
    wire::Commit commit;
    for (auto it = group.done.begin(); it != group.done.end();) {
        if (it->second.size() < members.size()) {
            ++it;
            continue;
        }
        commit.ops.push_back(it->first);
        for (const PeerId m : members) {
            --peers_.at(m).open_done;
            peers_.at(m).waiting.erase(it->first);
        }
        it = group.done.erase(it);
    }
    if (commit.ops.empty()) return;
    ++group.commits;
    count_tags(group, commit);
    for (const PeerId m : members)
        send(peers_.at(m), commit);
}

void Master::on_op_fault(Peer &peer, const wire::OpFault &fault) {
    Group &group = groups_.at(peer.group);
    if (group.freeze || fault.op.epoch != group.epoch || group.failed.contains(fault.op)) return;
    if (group.failed.size() > wire::kMaxOpenOps) {
        return remove(peer.id, pcclInvalidUsage, to_string(peer.id) + " was removed: too many failed operations");
    }
    note(fault.code == pcclRankConnectionLost ? LogLevel::info : LogLevel::warn, fault.why);  // members that changed are nobody's mistake
    const wire::OpFailed failed{fault.op, fault.code == pcclSuccess ? pcclInternalError : fault.code, false, fault.why, fault.own ? peer.id : PeerId{}};
    fail_op(peer.group, group, failed);
}

void Master::fail_op(GroupId id, Group &group, const wire::OpFailed &failed) {
    const OpId &op = failed.op;
    group.failed.insert(op);
    group.tags.fresh += op.seq == group.tags.floor;
    if (const auto found = group.done.find(op); found != group.done.end()) {
        for (const PeerId m : found->second)
            --peers_.at(m).open_done;
        group.done.erase(found);
    }
    for (const PeerId m : members_of(id)) {
        peers_.at(m).waiting.erase(op);
        send(peers_.at(m), failed);
    }
}

}  // namespace pccl::protocol
