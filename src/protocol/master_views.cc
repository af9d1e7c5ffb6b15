// The end of a view and the start of the next.
//
// A loss ends a group's view in two steps. Freeze: the members stop and report which calls they had begun. View: it names every
// call that any survivor had begun, so that such a call fails at every survivor, including those that had not made it yet. So the
// members always agree on the outcome of their n-th call with a tag, whatever each of them was doing when the peer was lost.
// Calls with pcclLossPolicyRepair continue in the next epoch instead (carry.h).
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

bool Master::any_frozen() const {
    return std::ranges::any_of(groups_, [](const auto &entry) { return entry.second.freeze.has_value(); });
}

void Master::member_lost(GroupId group_id, PeerId id, const std::string &why) {
    const auto found = groups_.find(group_id);
    Group &group = found->second;
    probing_.drop_impossible([&](const Probing::Probe &probe) { return member(probe.from) && member(probe.to); });
    if (members_of(group_id).empty()) {
        groups_.erase(found);
        questions_.remove_group(group_id);
        if (member_count() > 0) publish_view({}, {}, why);
        return;
    }
    for (auto &[op, holders] : group.done)
        holders.erase(id);
    std::erase_if(group.done, [](const auto &entry) { return entry.second.empty(); });
    group.sync.last_members.erase(id);
    group.sync.pulling = false;  // the remaining members elect again
    group.sync.awaiting.clear();
    if (!group.freeze)
        commit_complete(group, members_of(group_id));  // the lost member can have been the last one without the result
    if (group.freeze) {
        group.freeze->awaiting.erase(id);
        if (group.freeze->why.size() < wire::kMaxText) group.freeze->why.append("; ").append(why);
    } else {
        begin_freeze(group_id, why);
    }
}

void Master::begin_freeze(GroupId group_id, const std::string &why) {
    Group &group = groups_.at(group_id);
    if (group.freeze) return;
    const auto members = members_of(group_id);
    group.freeze = FreezeState{next_freeze_++, now_, {members.begin(), members.end()}, {}, why, {}, {}, false, {}, 0};
    group.tags.round.reset();
    group.sync.pulling = false;
    group.sync.awaiting.clear();
    for (const PeerId id : members)
        send(peers_.at(id), wire::Freeze{group.freeze->id, why});
}

/// No call is carried over that a member has given up, even if the freeze began for another reason.
void Master::freeze_for_abort(GroupId group_id, const std::string &why) {
    if (auto &freeze = groups_.at(group_id).freeze) freeze->aborted = true;
    begin_freeze(group_id, why);
}

void Master::on(Peer &peer, const wire::Frozen &frozen) {
    Group &group = groups_.at(peer.group);
    if (!group.freeze || group.freeze->id != frozen.freeze || group.freeze->awaiting.erase(peer.id) == 0) return;
    if (!well_formed(frozen.carried)) {
        return break_protocol(peer.id, "an invalid list of final elements");
    }
    FreezeState &freeze = *group.freeze;
    std::set<Tag> tags = freeze.tags;
    for (const auto &count : frozen.opened)
        tags.insert(count.tag);
    for (const auto &op : frozen.carried)
        tags.insert(op.tag);
    if (tags.size() > wire::kMaxOpsInMessage) {  // no View could name them all
        return remove(peer.id, pcclInvalidUsage,
                      to_string(peer.id) + " was removed: it began too many operations that others have not");
    }
    freeze.tags = std::move(tags);
    for (const auto &count : frozen.opened) {
        auto &next = freeze.begun[count.tag];
        next = std::max(next, count.next_seq);
    }
    keep_carried(freeze, peer.id, frozen.carried);
}

/// If the members would together carry over more than a View can contain, nothing is carried over, and only the tags are kept.
void Master::keep_carried(FreezeState &freeze, PeerId id, const std::vector<wire::CarriedOp> &carried) {
    freeze.carried[id] = carried;
    for (const auto &op : carried)
        freeze.carried_parts += 1 + op.final.size();
    if (freeze.carried_parts <= wire::kMaxViewRanges + wire::kMaxOpsInMessage) return;
    for (const auto &[member, ops] : freeze.carried) {
        for (const auto &op : ops) {
            auto &next = freeze.begun[op.tag];
            next = std::max(next, op.seq + 1);
        }
    }
    freeze.carried.clear();
    freeze.carried_parts = 0;
    freeze.aborted = true;
}

/// The outcome of the calls for the members of the next ring. Elements that only a member lost since its answer held are final
/// nowhere.
EpochOutcome Master::end_calls_of(const FreezeState &freeze, const std::vector<PeerId> &ring) {
    std::map<PeerId, std::vector<wire::CarriedOp>> carried;
    auto begun = freeze.begun;
    for (const auto &[member, ops] : freeze.carried) {
        if (std::ranges::find(ring, member) == ring.end()) continue;
        if (!freeze.aborted) carried[member] = ops;
        for (const auto &op : ops) {
            if (freeze.aborted) begun[op.tag] = std::max(begun[op.tag], op.seq + 1);
        }
    }
    return end_calls(begun, carried);
}

bool Master::try_install(GroupId id, Group &group) {
    if (!group.freeze->awaiting.empty()) return false;
    const auto ids = members_of(id);
    const auto ring = links_.best_ring(ids, now_);
    if (!ring) {
        for (const PeerId a : ids) {
            if (!links_.all_settled(a, ids)) return false;  // a link is being made; its report will come
        }
        if (retry_given_up(ids, *group.freeze)) return false;
        // No ring exists: remove the member with the fewest links, the newest among equals.
        const auto links = [&](PeerId a) {
            return std::ranges::count_if(ids, [&](PeerId b) { return a != b && links_.is_up(a, b); });
        };
        const PeerId worst =
            *std::ranges::min_element(ids, [&](PeerId a, PeerId b) { return std::pair(links(a), b) < std::pair(links(b), a); });
        remove(worst, pcclRankConnectionFailed,
               to_string(worst) + " was removed: its links to other peers broke and no ring includes it");
        return true;
    }
    set_ring(group, *ring);
    EpochOutcome ended = end_calls_of(*group.freeze, *ring);
    const std::string why = group.freeze->why;
    group.freeze.reset();
    publish_view({id}, {{id, std::move(ended)}}, why);
    refresh_ready();
    return true;
}

/// Before a member is removed for lack of links, every link that is down gets one more attempt: the cause can be gone. Links that
/// broke repeatedly get none.
bool Master::retry_given_up(const std::vector<PeerId> &ids, FreezeState &freeze) {
    bool any = false;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        for (std::size_t j = i + 1; j < ids.size(); ++j) {
            const auto attempt = links_.reopen(ids[i], ids[j], freeze.since, freeze.retried);
            if (!attempt) continue;
            open_link(*attempt);
            any = true;
        }
    }
    return any;
}

void Master::publish_view(const std::set<GroupId> &changed, const std::map<GroupId, EpochOutcome> &ended,
                          const std::string &why) {
    ++view_.value;
    calls_.request_check();
    changed_ = true;
    for (const GroupId id : changed) {
        Group &group = groups_.at(id);
        group.epoch = view_;
        const auto calls = ended.find(id);
        group.begun = calls == ended.end() ? std::vector<wire::TagCount>{} : calls->second.begun;
        group.repaired = calls == ended.end() ? std::vector<wire::RepairedOp>{} : calls->second.repaired;
        group.why = why;
        group.commits = 0;
        group.tags = {};
        group.done.clear();
        group.failed.clear();
    }
    published_ = {group_sizes(), generation_};
    for (auto &[id, peer] : peers_) {
        if (!peer.member) continue;
        if (changed.contains(peer.group)) {
            calls_.clear_waiting(id);
            peer.open_done = 0;
            peer.commits_received = 0;
        }
        wire::View view = view_of(groups_.at(peer.group));
        if (!changed.contains(peer.group)) {
            view.begun.clear();
            view.repaired.clear();
        }
        view.why = why;
        send(peer, std::move(view));
    }
    for (const GroupId id : changed)
        update_graph(id);
    log(LogLevel::info, "view " + std::to_string(view_.value) + ": " + std::to_string(member_count()) + " members; " + why);
}

std::vector<wire::GroupSize> Master::group_sizes() const {
    std::map<GroupId, std::uint32_t> members;
    for (const auto &[id, group] : groups_)
        members[id] = 0;
    for (const auto &[id, peer] : peers_) {
        if (peer.member) ++members[peer.group];
    }
    std::vector<wire::GroupSize> sizes;
    for (const auto &[id, count] : members)
        sizes.push_back({id, count});
    return sizes;
}

/// The current view as it is sent to the members of a group.
wire::View Master::view_of(const Group &group) const {
    wire::View view;
    view.number = view_;
    view.epoch = group.epoch;
    view.ring = group.ring;
    view.groups = published_.sizes;
    view.full_mesh = group.full_mesh;
    view.path = group.path;
    view.generation = published_.generation;
    view.begun = group.begun;
    view.repaired = group.repaired;
    view.why = group.why;
    return view;
}

}  // namespace pccl::protocol
