// Shared state: elect once all members of a group have offered, let those that lack something pull, commit when all have it.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;

bool Master::try_sync(GroupId id, Group &group) {
    SyncState &sync = group.sync;
    if (group.freeze || sync.pulling) return false;
    const auto members = members_of(id);
    const bool all_in = std::ranges::all_of(members, [&](PeerId m) { return peers_.at(m).call == Call::sync_shared_state; });
    if (members.empty() || !all_in) return false;

    std::vector<Ballot> ballots;
    for (const PeerId m : members) {
        ballots.push_back({m, &peers_.at(m).offer, sync.last_members.contains(m), sync.tainted.contains(m)});
    }
    Election election = elect(sync.history, ballots);
    if (!election.violations.empty()) {
        for (const auto &violation : election.violations)
            remove(violation.peer, pcclInvalidUsage, violation.why);
        return true;
    }
    if (!election.failure) {
        fail_sync(id, group, election.failure.code(), election.failure.error().what);
        return true;
    }
    sync.revision = election.revision;
    sync.id = next_sync_++;
    if (election.receivers.empty()) {
        commit_sync(id, group);
        return true;
    }
    sync.pulling = true;
    sync.awaiting.clear();
    sync.unplanned.clear();
    sync.planned.clear();
    for (auto &receiver : election.receivers) {
        const PeerId peer = receiver.peer;
        if (receiver.in_place) sync.tainted.insert(peer);
        sync.unplanned[peer] = std::move(receiver);
    }
    for (const PeerId m : members) {
        if (!sync.unplanned.contains(m)) send(peers_.at(m), wire::SyncPlan{sync.id, peers_.at(m).call_number, false, {}});
    }
    note(LogLevel::info, "group " + std::to_string(id.value) + " synchronizes revision " + std::to_string(sync.revision) + ": " +
                             std::to_string(election.receivers.size()) + " of " + std::to_string(members.size()) + " receive");
    plan_wave(id, group);
    return true;
}

/// Plans for the receivers that have such a link to a holder of each tensor they lack.
void Master::plan_pulls(SyncState &sync, Trust trust) {
    for (auto it = sync.unplanned.begin(); it != sync.unplanned.end();) {
        auto plan = it->second.pull;
        for (auto &tensor : plan) {
            std::erase_if(tensor.sources, [&](PeerId source) {
                const Pair *link = find_pair(it->first, source);
                return !link || !usable(*link, trust);
            });
        }
        if (std::ranges::any_of(plan, [](const auto &tensor) { return tensor.sources.empty(); })) {
            ++it;
            continue;
        }
        for (const auto &tensor : plan)
            sync.planned[it->first].insert(tensor.index);
        send(peers_.at(it->first), wire::SyncPlan{sync.id, peers_.at(it->first).call_number, it->second.in_place, std::move(plan)});
        sync.awaiting.insert(it->first);
        it = sync.unplanned.erase(it);
    }
}

/// The receivers without a good link to a holder wait: one that has received is a holder for them. A link that is not to be relied on is
/// taken if that does not help.
void Master::plan_wave(GroupId id, Group &group) {
    SyncState &sync = group.sync;
    plan_pulls(sync, Trust::steady);
    if (sync.awaiting.empty()) plan_pulls(sync, Trust::any);
    if (!sync.awaiting.empty() || sync.unplanned.empty()) return;
    const PeerId left = sync.unplanned.begin()->first;
    fail_sync(id, group, pcclNoSharedStateAvailable,
              to_string(left) + " has no link to any peer that holds the shared state; see the log for why links could not be made");
}

void Master::on_sync_done(Peer &peer, const wire::SyncDone &done) {
    Group &group = groups_.at(peer.group);
    if (!group.sync.pulling || group.sync.id != done.sync || !group.sync.awaiting.contains(peer.id)) return;
    if (!done.ok) {
        return fail_sync(peer.group, group, pcclNoSharedStateAvailable,
                         to_string(peer.id) + " could not get the shared state: " + done.why);
    }
    SyncState &sync = group.sync;
    sync.awaiting.erase(peer.id);
    const bool gives = peer.offer.strategy != wire::Strategy::receive_only;
    for (auto &[waiting, receiver] : sync.unplanned) {
        for (auto &tensor : receiver.pull) {
            if (gives && sync.planned[peer.id].contains(tensor.index)) tensor.sources.push_back(peer.id);
        }
    }
    if (!sync.unplanned.empty()) plan_wave(peer.group, group);
    if (sync.pulling && sync.awaiting.empty()) commit_sync(peer.group, group);
}

/// A holder's program changed what others pull: its call is a mistake, and nobody can have the elected content for sure.
void Master::on_state_fault(Peer &peer, const wire::StateFault &fault) {
    Group &group = groups_.at(peer.group);
    if (!group.sync.pulling || group.sync.id != fault.sync || peer.call != Call::sync_shared_state) return;
    note(LogLevel::warn, fault.why);
    fail_sync(peer.group, group, pcclNoSharedStateAvailable, fault.why, peer.id);
}

void Master::commit_sync(GroupId id, Group &group) {
    SyncState &sync = group.sync;
    const auto members = members_of(id);
    sync.history.synced = true;
    sync.history.revision = sync.revision;
    sync.history.schema = peers_.at(members.front()).offer.tensors;
    sync.last_members = {members.begin(), members.end()};
    sync.tainted.clear();
    sync.pulling = false;
    decide_sync(group, pcclSuccess, "");
    for (const PeerId m : members) {
        Peer &peer = peers_.at(m);
        send(peer, wire::SyncCommit{peer.call_number, sync.id, sync.revision, group.answer.decision});
        peer.call = Call::none;
        peer.offer = {};
    }
}

/// With pcclInvalidUsage at the `culprit`, if there is one.
void Master::fail_sync(GroupId id, Group &group, pcclResult_t code, const std::string &why, PeerId culprit) {
    group.sync.pulling = false;
    group.sync.awaiting.clear();
    decide_sync(group, code, why);
    for (const PeerId m : members_of(id)) {
        Peer &peer = peers_.at(m);
        if (peer.call == Call::sync_shared_state) call_done(peer, m == culprit ? pcclInvalidUsage : code, why, group.answer.decision);
    }
}

void Master::decide_sync(Group &group, pcclResult_t code, const std::string &why) {
    group.answer = {group.answer.decision + 1, group.epoch, Call::sync_shared_state, code, group.sync.id, group.sync.revision, why};
    changed_ = true;
}

}  // namespace pccl::protocol
