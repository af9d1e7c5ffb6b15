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
    std::map<PeerId, const Receiver *> receivers;
    for (const auto &receiver : election.receivers) {
        receivers[receiver.peer] = &receiver;
        sync.awaiting.insert(receiver.peer);
        if (receiver.in_place) sync.tainted.insert(receiver.peer);
    }
    for (const PeerId m : members) {
        const Peer &peer = peers_.at(m);
        const auto found = receivers.find(m);
        if (found == receivers.end())
            send(peer, wire::SyncPlan{sync.id, peer.call_number, false, {}});
        else
            send(peer, wire::SyncPlan{sync.id, peer.call_number, found->second->in_place, found->second->pull});
    }
    note(LogLevel::info, "group " + std::to_string(id.value) + " synchronizes revision " + std::to_string(sync.revision) + ": " +
                             std::to_string(election.receivers.size()) + " of " + std::to_string(members.size()) + " receive");
    return true;
}

void Master::on_sync_done(Peer &peer, const wire::SyncDone &done) {
    Group &group = groups_.at(peer.group);
    if (!group.sync.pulling || group.sync.id != done.sync || !group.sync.awaiting.contains(peer.id)) return;
    if (!done.ok) {
        return fail_sync(peer.group, group, pcclNoSharedStateAvailable,
                         to_string(peer.id) + " could not get the shared state: " + done.why);
    }
    group.sync.awaiting.erase(peer.id);
    if (group.sync.awaiting.empty()) commit_sync(peer.group, group);
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
    for (const PeerId m : members) {
        Peer &peer = peers_.at(m);
        send(peer, wire::SyncCommit{peer.call_number, sync.id, sync.revision});
        peer.call = Call::none;
        peer.offer = {};
    }
}

void Master::fail_sync(GroupId id, Group &group, pcclResult_t code, const std::string &why) {
    group.sync.pulling = false;
    group.sync.awaiting.clear();
    for (const PeerId m : members_of(id)) {
        Peer &peer = peers_.at(m);
        if (peer.call == Call::sync_shared_state) call_done(peer, code, why);
    }
}

}  // namespace pccl::protocol
