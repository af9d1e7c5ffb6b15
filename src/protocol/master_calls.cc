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
    misuse_stale_ = true;
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

void Master::decide_run(Call call, pcclResult_t code, const std::string &why) {
    answer_ = {answer_.decision + 1, {}, call, code, 0, 0, why};
}

void Master::call_done(Peer &peer, pcclResult_t code, const std::string &why, std::uint64_t decision) {
    send(peer, wire::CallDone{peer.call, peer.call_number, code, generation_, why, decision});
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
    decide_run(Call::update_topology, pcclSuccess, "");
    for (const GroupId id : grown) {
        Group &group = groups_[id];
        const auto ids = members_of(id);
        set_ring(group, ring_of(ids).value_or(ids));  // refresh_ready saw that there is one
    }
    if (!grown.empty()) publish_view(grown, {}, who + " joined");
    for (auto &[id, peer] : peers_) {
        if (peer.member) call_done(peer, pcclSuccess, "", answer_.decision);
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
    end_for_abort(peer.group, why);
}

std::string Master::describe_call(const Peer &peer) const {
    std::string what = to_string(peer.id) + " is in ";
    if (peer.call != Call::none) return what + name_of(peer.call);
    if (peer.waiting.empty()) return to_string(peer.id) + " is in no call that waits";
    return what + "pcclAllReduce with tag " + std::to_string(peer.waiting.begin()->tag.value);
}

/// The pair of members that has waited for each other longest, if there is one.
std::optional<Master::Misuse> Master::conflict() const {
    std::optional<Misuse> first = crossed_calls();
    const auto consider = [&](const std::optional<Misuse> &other) {
        if (other && (!first || other->due < first->due)) first = other;
    };
    for (const auto &[id, group] : groups_) {
        consider(blocked_by_call(id, group));
        consider(stuck_reduces(id, group));
    }
    return first;
}

/// Two members in different calls of all members.
std::optional<Master::Misuse> Master::crossed_calls() const {
    struct Entered {
        PeerId who;
        Time since;
    };
    // Who entered each call first, in the run and in each group.
    std::map<Call, Entered> run;
    std::map<GroupId, std::map<Call, Entered>> groups;
    const auto enter = [](std::map<Call, Entered> &calls, const Peer &peer) {
        const auto [at, first] = calls.try_emplace(peer.call, Entered{peer.id, peer.call_since});
        if (!first && peer.call_since < at->second.since) at->second = {peer.id, peer.call_since};
    };
    for (const auto &[id, peer] : peers_) {
        if (!peer.member || peer.call == Call::none || peer.call == Call::connect) continue;
        if (needs_whole_run(peer.call)) enter(run, peer);
        enter(groups[peer.group], peer);
    }
    std::optional<Misuse> found;
    const auto compare = [&](const std::map<Call, Entered> &calls) {
        for (const auto &[call, a] : calls) {
            for (const auto &[other, b] : calls) {
                const Time due = std::max(a.since, b.since) + options_.misuse_grace;
                if (call < other && (!found || due < found->due)) found = Misuse{a.who, b.who, due};
            }
        }
    };
    compare(run);
    for (const auto &[id, calls] : groups)
        compare(calls);
    return found;
}

/// A member waits for an all-reduce that another, in a call of all members, has not made: that one cannot make it before its call ends,
/// which needs the first.
std::optional<Master::Misuse> Master::blocked_by_call(GroupId id, const Group &group) const {
    if (group.freeze) return std::nullopt;
    std::vector<const Peer *> callers, waiters;
    for (const PeerId m : members_of(id)) {
        const Peer &peer = peers_.at(m);
        if (peer.call != Call::none) callers.push_back(&peer);
        else if (!peer.waiting.empty()) waiters.push_back(&peer);
    }
    std::ranges::stable_sort(callers, {}, [](const Peer *peer) { return peer->call_since; });
    std::optional<Misuse> found;
    std::set<OpId> seen;
    std::ranges::stable_sort(waiters, {}, [](const Peer *peer) { return peer->waiting_since; });
    for (const Peer *waiter : waiters) {
        for (const OpId &op : waiter->waiting) {
            if (!seen.insert(op).second) continue;  // who waits for it longest has been looked at
            const auto holders = group.done.find(op);
            const auto missing = std::ranges::find_if(
                callers, [&](const Peer *peer) { return holders == group.done.end() || !holders->second.contains(peer->id); });
            if (missing == callers.end()) continue;
            const Time due = std::max((*missing)->call_since, waiter->waiting_since) + options_.misuse_grace;
            if (!found || due < found->due) found = Misuse{(*missing)->id, waiter->id, due};
        }
    }
    return found;
}

/// All members of a group wait in all-reduces, each of which some member has not called. Where a thread that has made calls is not among
/// those that wait, it may yet make the missing one: so this is borne for longer than what can never end.
std::optional<Master::Misuse> Master::stuck_reduces(GroupId id, const Group &group) const {
    const auto members = members_of(id);
    if (group.freeze || members.size() < 2) return std::nullopt;
    Time since;
    bool hopeless = true;
    std::set<OpId> ops;
    for (const PeerId m : members) {
        const Peer &peer = peers_.at(m);
        if (peer.call != Call::none || peer.waiting.empty() || peer.blocked == wire::Blocked::none) return std::nullopt;
        hopeless = hopeless && peer.blocked == wire::Blocked::all;
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
    return Misuse{members[0], members[1], since + (hopeless ? 1 : 3) * options_.misuse_grace};
}

/// Looked at when somebody enters a call or waits for other operations than before, and when it is due: what ends in between is found
/// out then.
void Master::check_misuse() {
    const bool due = misuse_due_ && now_ >= *misuse_due_;
    if (!due && !misuse_stale_) return;
    misuse_stale_ = false;
    const auto misuse = conflict();
    if (!misuse) {
        misuse_due_.reset();
        return;
    }
    misuse_due_ = misuse->due;
    if (now_ < *misuse_due_) return;
    misuse_due_.reset();
    misuse_stale_ = true;  // there may be others

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
        if (meant) call_done(peer, pcclInvalidUsage, why, 0);
    }
    for (const GroupId id : groups) {
        Group &group = groups_.at(id);
        std::set<OpId> stuck;
        for (const PeerId m : members_of(id))
            stuck.insert(peers_.at(m).waiting.begin(), peers_.at(m).waiting.end());
        for (const OpId &op : stuck) {
            if (op.epoch == group.epoch && !group.failed.contains(op)) fail_op(id, group, {op, pcclInvalidUsage, true, why, {}});
        }
        for (const PeerId m : members_of(id))
            peers_.at(m).waiting.clear();
    }
}

}  // namespace pccl::protocol
