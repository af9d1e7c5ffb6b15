// Calls that need every member of the run or of a group: votes, questions, and the diagnosis of calls that can never meet.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;

namespace {

bool needs_whole_run(Call call) { return call == Call::update_topology || call == Call::optimize_topology; }

}  // namespace

void Master::on_vote(Peer &peer, Call call, std::uint32_t number) {
    if (peer.call != Call::none) {
        return remove(peer.id, pcclInvalidUsage,
                      to_string(peer.id) + " was removed: it broke the protocol (a vote during another)");
    }
    peer.call = call;
    peer.call_number = number;
    peer.call_since = now_;
}

bool Master::all_members_in(Call call) const {
    return std::ranges::all_of(peers_, [&](const auto &entry) { return !entry.second.member || entry.second.call == call; });
}

void Master::new_generation() {
    ++generation_;
    answers_ = {};
    told_yes_ = false;
    for (auto &[id, group] : groups_)
        group.answers = {};
}

/// The k-th question is answered for all as for the first who asks it. But a group whose questions run ahead of another's by more
/// than one, since no call of the whole run keeps them in step, binds itself alone: the slower group would learn of a newcomer only
/// once it had asked as often, if ever. Once somebody was told "yes" everybody is, so that all come to update_topology.
void Master::on_ask_pending(Peer &peer, const wire::AskPending &ask) {
    bool pending = false;
    if (ask.generation == generation_) {
        const bool now = told_yes_ || std::ranges::any_of(peers_, [](const auto &entry) { return entry.second.ready; });
        if (ask.k >= answers_.asked) {
            if (now && !answers_.yes_from) answers_.yes_from = ask.k;
            answers_.asked = ask.k + 1;
        }
        Answers &group = groups_.at(peer.group).answers;
        if (ask.k >= group.asked) {
            const bool behind = ask.k + 1 < answers_.asked;
            if ((answers_.is_yes(ask.k) || (behind && now)) && !group.yes_from) group.yes_from = ask.k;
            group.asked = ask.k + 1;
        }
        pending = group.is_yes(ask.k);
        told_yes_ = told_yes_ || pending;
    }
    send(peer, wire::PendingAnswer{ask.generation, ask.k, pending});
}

void Master::call_done(Peer &peer, pcclResult_t code, const std::string &why) {
    send(peer, wire::CallDone{peer.call, peer.call_number, code, generation_, why});
    peer.call = Call::none;
    peer.call_number = 0;
    peer.offer = {};
}

bool Master::try_update() {
    if (member_count() == 0 || any_frozen() || !all_members_in(Call::update_topology)) return false;
    std::set<GroupId> grown;
    std::string who;
    for (auto &[id, peer] : peers_) {
        if (peer.member || !peer.ready) continue;
        peer.member = true;
        peer.ready = false;
        grown.insert(peer.group);
        who += (who.empty() ? "" : ", ") + to_string(id);
    }
    new_generation();
    for (const GroupId id : grown) {
        Group &group = groups_[id];
        const auto ids = members_of(id);
        set_ring(group, ring_of(ids).value_or(ids));  // refresh_ready saw that there is one
    }
    if (!grown.empty()) publish_view(grown, {}, who + " joined");
    for (auto &[id, peer] : peers_) {
        if (peer.member) call_done(peer, pcclSuccess, "");
    }
    refresh_ready();
    return true;
}

void Master::on_abort(Peer &peer) {
    const std::string why = to_string(peer.id) + " aborted its calls";
    if (!peer.member) return remove(peer.id, pcclRankConnectionLost, why);
    note(LogLevel::info, why);
    // The others' calls of all peers go on waiting, for this one to call again or to leave: were they failed, those that have not
    // called yet would part ways with those that have.
    if (peer.call == Call::optimize_topology) optimize_ = {};
    peer.call = Call::none;
    peer.waiting.clear();
    begin_freeze(peer.group, why);
}

std::string Master::describe_call(const Peer &peer) const {
    std::string what = to_string(peer.id) + " is in ";
    if (peer.call != Call::none) return what + name_of(peer.call);
    if (peer.waiting.empty()) return to_string(peer.id) + " is in no call that waits";
    return what + "pcclAllReduce with tag " + std::to_string(peer.waiting.begin()->tag.value);
}

std::optional<Master::Misuse> Master::conflict() const {
    for (const auto &[a_id, a] : peers_) {
        if (!a.member || a.call == Call::none || a.call == Call::connect) continue;
        for (const auto &[b_id, b] : peers_) {
            if (!b.member || a_id == b_id) continue;
            const bool same_group = a.group == b.group;
            if (b.call != Call::none) {
                const bool meet = b.call == a.call || !(same_group || (needs_whole_run(a.call) && needs_whole_run(b.call)));
                if (meet) continue;
                return Misuse{a_id, b_id, std::max(a.call_since, b.call_since) + options_.misuse_grace};
            }
            const Group &group = groups_.at(a.group);
            if (!same_group || group.freeze) continue;
            for (const OpId &op : b.waiting) {
                const auto holders = group.done.find(op);
                if (holders != group.done.end() && holders->second.contains(a_id)) continue;
                // `a` cannot start `op` before its call ends, which needs `b`, which waits for `op`.
                return Misuse{a_id, b_id, std::max(a.call_since, b.waiting_since) + options_.misuse_grace};
            }
        }
    }
    for (const auto &[id, group] : groups_) {
        if (const auto stuck = stuck_reduces(id, group)) return stuck;
    }
    return std::nullopt;
}

/// All members of a group wait in all-reduces, each of which some member has not called. Another thread of that member may yet call it:
/// so this is borne for longer than what can never end.
std::optional<Master::Misuse> Master::stuck_reduces(GroupId id, const Group &group) const {
    const auto members = members_of(id);
    if (group.freeze || members.size() < 2) return std::nullopt;
    Time since;
    std::set<OpId> ops;
    for (const PeerId m : members) {
        const Peer &peer = peers_.at(m);
        if (peer.call != Call::none || peer.waiting.empty() || !peer.blocked) return std::nullopt;
        since = std::max(since, peer.waiting_since);
        ops.insert(peer.waiting.begin(), peer.waiting.end());
    }
    for (const OpId &op : ops) {
        const auto holders = group.done.find(op);
        const bool called_by_all = std::ranges::all_of(members, [&](PeerId m) {
            return peers_.at(m).waiting.contains(op) || (holders != group.done.end() && holders->second.contains(m));
        });
        if (called_by_all) return std::nullopt;
    }
    return Misuse{members[0], members[1], since + 3 * options_.misuse_grace};
}

void Master::check_misuse() {
    const auto misuse = conflict();
    if (!misuse) {
        misuse_due_.reset();
        return;
    }
    misuse_due_ = misuse->due;
    if (now_ < *misuse_due_) return;
    misuse_due_.reset();

    const std::set<GroupId> groups{peers_.at(misuse->first).group, peers_.at(misuse->second).group};
    std::string why = "calls that can never meet: ";
    bool first = true;
    for (const auto &[id, peer] : peers_) {
        if (!peer.member || !groups.contains(peer.group)) continue;
        why += (first ? "" : ", ") + describe_call(peer);
        first = false;
    }
    if (why.size() > wire::kMaxText) why.resize(wire::kMaxText);
    note(LogLevel::error, why);
    for (auto &[id, peer] : peers_) {
        if (!peer.member) continue;
        const bool meant = needs_whole_run(peer.call) || (peer.call == Call::sync_shared_state && groups.contains(peer.group));
        if (meant) call_done(peer, pcclInvalidUsage, why);
    }
    for (const GroupId id : groups) {
        Group &group = groups_.at(id);
        std::set<OpId> stuck;
        for (const PeerId m : members_of(id))
            stuck.insert(peers_.at(m).waiting.begin(), peers_.at(m).waiting.end());
        for (const OpId &op : stuck) {
            if (op.epoch == group.epoch && !group.failed.contains(op)) fail_op(id, group, op, pcclInvalidUsage, true, why);
        }
        for (const PeerId m : members_of(id))
            peers_.at(m).waiting.clear();
    }
}

}  // namespace pccl::protocol
