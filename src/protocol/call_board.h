// The calls that peers wait in, and calls of members that can never end because they wait for each other.
//
// A call of all members ends once each of them has made it. So members in different such calls wait forever, and so does a member
// in an operation that another cannot start because it is in such a call. The board finds these conflicts and the time at which
// their grace period ends: until then, a program can still make the missing call from another thread.
//
// Invariants: a peer is in at most one call of all members. `waiting_since` is when the current set `waiting` was first reported.
// Pure. The master's thread runs it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "wire/messages.h"

namespace pccl::protocol {

class CallBoard {
public:
    struct Calls {
        GroupId group;
        wire::Call call = wire::Call::none;           ///< the call of all members that it waits in; `connect` for a newcomer
        std::uint32_t number = 0;                     ///< the peer's number of that call
        Time since;                                   ///< when it made that call
        std::set<OpId> waiting;                       ///< operations that it reported as open for a while
        wire::Blocked blocked = wire::Blocked::none;  ///< whether its caller's threads only wait for these
        Time waiting_since;
    };

    void add(PeerId id, GroupId group, wire::Call call, Time now);
    void remove(PeerId id) { calls_.erase(id); }
    const Calls &of(PeerId id) const { return calls_.at(id); }

    /// Records that the peer made a call of all members. False: it is in another one already.
    bool vote(Time now, PeerId id, wire::Call call, std::uint32_t number);
    void end_call(PeerId id);
    /// The peer's program aborted all its calls.
    void abort(PeerId id);
    /// Replaces the operations that the peer waits for.
    void report_waiting(Time now, PeerId id, std::set<OpId> ops, wire::Blocked blocked);
    void op_ended(PeerId id, const OpId &op) { calls_.at(id).waiting.erase(op); }
    void clear_waiting(PeerId id) { calls_.at(id).waiting.clear(); }
    /// Counts all calls as made now, because a restarted master does not know when they were made.
    void restart_clocks(Time now);

    /// Two members that cannot both end their calls, and the end of the grace period.
    struct Conflict {
        PeerId first, second;
        Time due;
    };
    /// The state of a group on which conflicts depend.
    struct GroupState {
        std::vector<PeerId> members;
        bool frozen = false;                                     ///< its operations end with the view
        const std::map<OpId, std::set<PeerId>> *done = nullptr;  ///< members that hold the result, by operation
    };
    /// True if check() is due: a call or a report changed something, or the grace period of the last conflict has ended.
    bool check_due(Time now) const { return stale_ || (due_ && now >= *due_); }
    /// Returns the conflict whose grace period has ended, if there is one. Call it if check_due().
    std::optional<Conflict> check(Time now, const std::vector<GroupState> &groups, Duration grace);
    /// Makes check_due() true in this step.
    void request_check() { stale_ = true; }
    std::optional<Time> next_check() const { return due_; }

    /// "peer 3 is in pcclUpdateTopology".
    std::string describe(PeerId id) const;

    static bool needs_whole_run(wire::Call call) {
        return call == wire::Call::update_topology || call == wire::Call::optimize_topology;
    }

    void check_invariants() const;

private:
    std::optional<Conflict> earliest(const std::vector<GroupState> &groups, Duration grace) const;
    std::optional<Conflict> crossed_calls(Duration grace) const;
    std::optional<Conflict> blocked_by_call(const GroupState &group, Duration grace) const;
    std::optional<Conflict> stuck_operations(const GroupState &group, Duration grace) const;

    std::map<PeerId, Calls> calls_;
    bool stale_ = false;       ///< a peer is in another call or waits for other operations than at the last check
    std::optional<Time> due_;  ///< when the grace period of the earliest conflict ends
};

}  // namespace pccl::protocol
