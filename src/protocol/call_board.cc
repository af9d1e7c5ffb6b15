// See call_board.h.
#include "protocol/call_board.h"

#include <algorithm>

#include "base/assert.h"

namespace pccl::protocol {

using wire::Call;

void CallBoard::add(PeerId id, GroupId group, Call call, Time now) {
    Calls calls;
    calls.group = group;
    calls.call = call;
    calls.since = now;
    calls_[id] = std::move(calls);
}

bool CallBoard::vote(Time now, PeerId id, Call call, std::uint32_t number) {
    Calls &calls = calls_.at(id);
    if (calls.call != Call::none) return false;
    calls.call = call;
    calls.number = number;
    calls.since = now;
    stale_ = true;
    return true;
}

void CallBoard::end_call(PeerId id) {
    calls_.at(id).call = Call::none;
    calls_.at(id).number = 0;
}

void CallBoard::abort(PeerId id) {
    end_call(id);
    calls_.at(id).waiting.clear();
}

void CallBoard::report_waiting(Time now, PeerId id, std::set<OpId> ops, wire::Blocked blocked) {
    Calls &calls = calls_.at(id);
    const bool changed = ops != calls.waiting || blocked != calls.blocked;
    if (calls.waiting.empty() || changed) calls.waiting_since = now;
    stale_ = stale_ || changed;
    calls.waiting = std::move(ops);
    calls.blocked = blocked;
}

void CallBoard::restart_clocks(Time now) {
    for (auto &[id, calls] : calls_)
        calls.since = now;
    stale_ = true;
}

std::string CallBoard::describe(PeerId id) const {
    const Calls &calls = of(id);
    if (calls.call != Call::none) return to_string(id) + " is in " + name_of(calls.call);
    if (calls.waiting.empty()) return to_string(id) + " is in no call that waits";
    return to_string(id) + " is in pcclAllReduce with tag " + std::to_string(calls.waiting.begin()->tag.value);
}

std::optional<CallBoard::Conflict> CallBoard::check(Time now, const std::vector<GroupState> &groups, Duration grace) {
    stale_ = false;
    const auto conflict = earliest(groups, grace);
    due_.reset();
    if (!conflict) return std::nullopt;
    if (now < conflict->due) {
        due_ = conflict->due;
        return std::nullopt;
    }
    stale_ = true;  // there can be others
    return conflict;
}

/// The conflict whose grace period ends first.
std::optional<CallBoard::Conflict> CallBoard::earliest(const std::vector<GroupState> &groups, Duration grace) const {
    std::optional<Conflict> first = crossed_calls(grace);
    const auto consider = [&](const std::optional<Conflict> &other) {
        if (other && (!first || other->due < first->due)) first = other;
    };
    for (const auto &group : groups) {
        consider(blocked_by_call(group, grace));
        consider(stuck_operations(group, grace));
    }
    return first;
}

/// Two members in different calls of all members, of the run or of one group.
std::optional<CallBoard::Conflict> CallBoard::crossed_calls(Duration grace) const {
    struct Entered {
        PeerId first_peer;
        Time since;
    };
    // The first member of each call, in the run and in each group.
    std::map<Call, Entered> run;
    std::map<GroupId, std::map<Call, Entered>> groups;
    const auto enter = [](std::map<Call, Entered> &entered, PeerId id, const Calls &calls) {
        const auto [at, first] = entered.try_emplace(calls.call, Entered{id, calls.since});
        if (!first && calls.since < at->second.since) at->second = {id, calls.since};
    };
    for (const auto &[id, calls] : calls_) {
        if (calls.call == Call::none || calls.call == Call::connect) continue;  // newcomers are in `connect`
        if (needs_whole_run(calls.call)) enter(run, id, calls);
        enter(groups[calls.group], id, calls);
    }
    std::optional<Conflict> found;
    const auto compare = [&](const std::map<Call, Entered> &entered) {
        for (const auto &[call, a] : entered) {
            for (const auto &[other, b] : entered) {
                const Time due = std::max(a.since, b.since) + grace;
                if (call < other && (!found || due < found->due)) found = Conflict{a.first_peer, b.first_peer, due};
            }
        }
    };
    compare(run);
    for (const auto &[id, entered] : groups)
        compare(entered);
    return found;
}

/// A member waits for an operation that another member, in a call of all members, has not made. The other member cannot make it
/// before its call ends, and its call cannot end without the first member.
std::optional<CallBoard::Conflict> CallBoard::blocked_by_call(const GroupState &group, Duration grace) const {
    if (group.frozen) return std::nullopt;
    using Entry = std::pair<PeerId, const Calls *>;
    std::vector<Entry> callers, waiters;
    for (const PeerId id : group.members) {
        const Calls &calls = of(id);
        if (calls.call != Call::none)
            callers.emplace_back(id, &calls);
        else if (!calls.waiting.empty())
            waiters.emplace_back(id, &calls);
    }
    std::ranges::stable_sort(callers, {}, [](const Entry &entry) { return entry.second->since; });
    std::ranges::stable_sort(waiters, {}, [](const Entry &entry) { return entry.second->waiting_since; });
    std::optional<Conflict> found;
    std::set<OpId> seen;
    for (const auto &[waiter, calls] : waiters) {
        for (const OpId &op : calls->waiting) {
            if (!seen.insert(op).second) continue;  // the member that has waited for it longest was considered before
            const auto holders = group.done->find(op);
            const auto missing = std::ranges::find_if(callers, [&](const Entry &entry) {
                return holders == group.done->end() || !holders->second.contains(entry.first);
            });
            if (missing == callers.end()) continue;
            const Time due = std::max(missing->second->since, calls->waiting_since) + grace;
            if (!found || due < found->due) found = Conflict{missing->first, waiter, due};
        }
    }
    return found;
}

/// All members of a group wait in operations, each of which some member has not called. A caller's thread that does not wait can
/// still make a missing call: the grace period is longer then.
std::optional<CallBoard::Conflict> CallBoard::stuck_operations(const GroupState &group, Duration grace) const {
    const auto &members = group.members;
    if (group.frozen || members.size() < 2) return std::nullopt;
    Time since;
    bool hopeless = true;
    std::set<OpId> ops;
    for (const PeerId id : members) {
        const Calls &calls = of(id);
        if (calls.call != Call::none || calls.waiting.empty() || calls.blocked == wire::Blocked::none) return std::nullopt;
        hopeless = hopeless && calls.blocked == wire::Blocked::all;
        since = std::max(since, calls.waiting_since);
        ops.insert(calls.waiting.begin(), calls.waiting.end());
    }
    for (const OpId &op : ops) {
        const auto holders = group.done->find(op);
        const bool called_by_all = std::ranges::all_of(members, [&](PeerId id) {
            return of(id).waiting.contains(op) || (holders != group.done->end() && holders->second.contains(id));
        });
        if (called_by_all) return std::nullopt;
    }
    return Conflict{members[0], members[1], since + (hopeless ? 1 : 3) * grace};
}

void CallBoard::check_invariants() const {
    for (const auto &[id, calls] : calls_) {
        PCCL_ASSERT(calls.number == 0 || calls.call != Call::none);
        PCCL_ASSERT(calls.call != Call::all_reduce);
        PCCL_ASSERT(calls.waiting.size() <= wire::kMaxOpsInMessage);
    }
}

}  // namespace pccl::protocol
