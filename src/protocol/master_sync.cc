// Shared state: once all members of a group have made an offer, elect the content; members that lack some of it pull; commit when
// all have it.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;

bool Master::try_sync(GroupId id, Group &group) {
    SyncState &sync = group.sync;
    if (group.freeze || sync.pulling) return false;
    const auto members = members_of(id);
    const bool all_in = std::ranges::all_of(members, [&](PeerId m) { return calls_.of(m).call == Call::sync_shared_state; });
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
        if (!sync.unplanned.contains(m)) send(peers_.at(m), wire::SyncPlan{sync.id, calls_.of(m).number, false, {}});
    }
    log(LogLevel::info, "group " + std::to_string(id.value) + " synchronizes revision " + std::to_string(sync.revision) + ": " +
                            std::to_string(election.receivers.size()) + " of " + std::to_string(members.size()) + " receive");
    plan_wave(id, group);
    return true;
}

/// Sends a plan to every receiver that has a link of this trust to a holder of each tensor that it lacks.
void Master::plan_pulls(SyncState &sync, LinkBook::Trust trust) {
    for (auto it = sync.unplanned.begin(); it != sync.unplanned.end();) {
        auto plan = it->second.pull;
        for (auto &tensor : plan) {
            std::erase_if(tensor.sources, [&](PeerId source) { return !links_.usable(it->first, source, trust, now_); });
        }
        if (std::ranges::any_of(plan, [](const auto &tensor) { return tensor.sources.empty(); })) {
            ++it;
            continue;
        }
        for (const auto &tensor : plan)
            sync.planned[it->first].insert(tensor.index);
        send(peers_.at(it->first), wire::SyncPlan{sync.id, calls_.of(it->first).number, it->second.in_place, std::move(plan)});
        sync.awaiting.insert(it->first);
        it = sync.unplanned.erase(it);
    }
}

/// Receivers without a steady link to a holder wait for the next wave: a receiver that is done is a holder for them. Links that
/// are not steady are used only if no receiver has a steady one.
void Master::plan_wave(GroupId id, Group &group) {
    SyncState &sync = group.sync;
    plan_pulls(sync, LinkBook::Trust::steady);
    if (sync.awaiting.empty()) plan_pulls(sync, LinkBook::Trust::any);
    if (!sync.awaiting.empty() || sync.unplanned.empty()) return;
    const PeerId unreached = sync.unplanned.begin()->first;
    fail_sync(id, group, pcclNoSharedStateAvailable,
              to_string(unreached) +
                  " has no link to any peer that holds the shared state; the log says why links could not be made");
}

void Master::on(Peer &peer, const wire::SyncDone &done) {
    Group &group = groups_.at(peer.group);
    if (!group.sync.pulling || group.sync.id != done.sync || !group.sync.awaiting.contains(peer.id)) return;
    if (!done.ok) {
        return fail_sync(peer.group, group, pcclNoSharedStateAvailable,
                         to_string(peer.id) + " could not get the shared state: " + done.why);
    }
    SyncState &sync = group.sync;
    sync.awaiting.erase(peer.id);
    const bool can_send = peer.offer.strategy != wire::Strategy::receive_only;
    for (auto &[waiting, receiver] : sync.unplanned) {
        for (auto &tensor : receiver.pull) {
            if (can_send && sync.planned[peer.id].contains(tensor.index)) tensor.sources.push_back(peer.id);
        }
    }
    if (!sync.unplanned.empty()) plan_wave(peer.group, group);
    if (sync.pulling && sync.awaiting.empty()) commit_sync(peer.group, group);
}

/// A holder's program changed content that others pull. Its call fails as a mistake, and no member can be sure of the elected
/// content.
void Master::on(Peer &peer, const wire::StateFault &fault) {
    Group &group = groups_.at(peer.group);
    if (!group.sync.pulling || group.sync.id != fault.sync || calls_.of(peer.id).call != Call::sync_shared_state) return;
    log(LogLevel::warn, fault.why);
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
        send(peer, wire::SyncCommit{calls_.of(m).number, sync.id, sync.revision, group.outcome.decision});
        calls_.end_call(m);
        peer.offer = {};
    }
}

/// The call fails with pcclInvalidUsage at the `culprit`, if there is one, and with `code` at the other members.
void Master::fail_sync(GroupId id, Group &group, pcclResult_t code, const std::string &why, PeerId culprit) {
    group.sync.pulling = false;
    group.sync.awaiting.clear();
    decide_sync(group, code, why);
    for (const PeerId m : members_of(id)) {
        Peer &peer = peers_.at(m);
        if (calls_.of(m).call == Call::sync_shared_state)
            call_done(peer, m == culprit ? pcclInvalidUsage : code, why, group.outcome.decision);
    }
}

void Master::decide_sync(Group &group, pcclResult_t code, const std::string &why) {
    group.outcome = {group.outcome.decision + 1, group.epoch, Call::sync_shared_state, code, group.sync.id,
                     group.sync.revision,        why};
    changed_ = true;
}

}  // namespace pccl::protocol
