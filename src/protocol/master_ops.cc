// Agreement on operations: committed when every member holds the result, failed when a member reports that it cannot be done.
#include "protocol/master.h"

namespace pccl::protocol {

void Master::on(Peer &peer, const wire::Done &done) {
    Group &group = groups_.at(peer.group);
    if (group.freeze) return;  // the operation ends with the view, at every member
    for (const OpId &op : done.ops) {
        if (op.epoch != group.epoch || group.failed.contains(op)) continue;
        calls_.op_ended(peer.id, op);
        if (!group.done[op].insert(peer.id).second) continue;
        if (++peer.open_done > wire::kMaxOpenOps) {
            return remove(peer.id, pcclInvalidUsage,
                          to_string(peer.id) + " was removed: it finished too many operations that no other member has finished");
        }
    }
    commit_complete(group, members_of(peer.group));
}

void Master::on(Peer &peer, const wire::Waiting &waiting) {
    const Group &group = groups_.at(peer.group);
    std::set<OpId> current;
    for (const OpId &op : waiting.ops) {
        if (op.epoch == group.epoch && !group.failed.contains(op)) current.insert(op);
    }
    calls_.report_waiting(now_, peer.id, std::move(current), waiting.blocked);
}

/// Commits the operations whose results all of `members` hold.
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
            calls_.op_ended(m, it->first);
        }
        it = group.done.erase(it);
    }
    if (commit.ops.empty()) return;
    ++group.commits;
    count_tags(group, commit);
    for (const PeerId m : members)
        send(peers_.at(m), commit);
}

void Master::on(Peer &peer, const wire::OpFault &fault) {
    Group &group = groups_.at(peer.group);
    if (group.freeze || fault.op.epoch != group.epoch || group.failed.contains(fault.op)) return;
    if (group.failed.size() > wire::kMaxOpenOps) {
        return remove(peer.id, pcclInvalidUsage, to_string(peer.id) + " was removed: too many failed operations");
    }
    log(fault.code == pcclRankConnectionLost ? LogLevel::info : LogLevel::warn,
        fault.why);  // a changed membership is no mistake of a program
    const wire::OpFailed failed{fault.op, fault.code == pcclSuccess ? pcclInternalError : fault.code, false, fault.why,
                                fault.own ? peer.id : PeerId{}};
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
        calls_.op_ended(m, op);
        send(peers_.at(m), failed);
    }
}

}  // namespace pccl::protocol
