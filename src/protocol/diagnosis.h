// Finds the member or path that delays others, from the members' reports: follows the chain of waiting members to one that waits
// for no other, and names it with evidence.
//
//   hung         a peer that others wait for and that does not answer the master
//   dead path    bytes from one peer to another are not acknowledged, while both answer the master
//   straggler    a peer that has not made the call in which half of the members wait, and that waits for no other itself
//   slow link    the one link that always has more to send than it can, while the other links of its group wait for data
//   no progress  all members are in the operation, no byte moves, and none of the above explains it
//
// Follows the distinctions of Dong et al., "Boosting large-scale parallel training efficiency with C4" (2024): hang or slowness,
// in communication or outside it, at the sender, the path or the receiver. Pure; it never removes a peer.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// The state of the run at one moment.
struct Snapshot {
    struct Member {
        PeerId id;
        GroupId group;
        std::string name;  ///< with the peer's address
        Duration silent{};
        bool waits = false;  ///< all its callers' threads wait
    };
    /// A call that some members have made and others have not.
    struct Wait {
        std::string call;
        std::vector<std::pair<PeerId, Duration>> waiting;  ///< members in the call, with the time they have waited
        std::vector<PeerId> missing;
        std::size_t members = 0;  ///< members that must make it
    };
    std::vector<Member> members;  ///< by id
    std::vector<Wait> waits;
    std::vector<OpId> entered;  ///< operations that every member of the group has called and some member has not finished
};

struct Thresholds {
    Duration hung, dead_path, straggler, no_progress;  ///< a finding is reported after this time
};

struct Finding {
    enum class Kind { hung, dead_path, straggler, slow_link, no_progress } kind;
    PeerId who;
    PeerId other;  ///< the other end of a path
    Duration lasting{};
    std::string what;  ///< the condition that begins and ends: "peer 3 holds the others up"
    std::string evidence;
};

class Diagnosis {
public:
    void report(Time now, PeerId from, const wire::ProgressReport &progress);
    void forget(PeerId id);
    /// Call it about once a second: a link is slow if it is found slow several times in a row.
    std::vector<Finding> findings(Time now, const Snapshot &snapshot, const Thresholds &limits);
    /// Evidence about the host of a silent peer: whether it acknowledges data that others send it. "" if no report contains any.
    std::string evidence_on(Time now, PeerId silent) const;

    /// The operations in the peer's last report. Empty if that report is older than kFresh.
    const std::vector<wire::OpProgress> &ops_of(Time now, PeerId id) const;

private:
    struct Report {
        Time at;
        wire::ProgressReport progress;
    };
    /// The rates of a link between two reports.
    struct Pace {
        PeerId from, to;
        double backlogged = 0;  ///< share of the time in which it had more to send than the path took
        std::uint64_t bytes = 0, bytes_per_s = 0, retransmitted = 0;
        double receiver_limited = 0, buffer_limited = 0;  ///< shares of the time in which there was something to send
        std::uint32_t round_trip_us = 0;
    };

    bool fresh(Time now, const Report &report) const { return now - report.at < kFresh; }
    void find_hung(Time now, const Snapshot &snapshot, const Thresholds &limits, std::vector<Finding> &found) const;
    void find_dead_paths(Time now, const Snapshot &snapshot, const Thresholds &limits, std::vector<Finding> &found) const;
    void find_slow_links(Time now, const Snapshot &snapshot, std::vector<Finding> &found);
    void find_idle(Time now, const Snapshot &snapshot, const Thresholds &limits, std::vector<Finding> &found) const;
    std::vector<Pace> paces(Time now, const Snapshot &snapshot, GroupId group) const;

    static constexpr Duration kFresh = std::chrono::milliseconds(2500);

    std::map<PeerId, Report> last_, before_;
    std::map<std::pair<PeerId, PeerId>, int> slow_;  ///< findings in a row
};

/// Finds stragglers only. Exposed for tests.
void find_stragglers(const Snapshot &snapshot, const Thresholds &limits, std::vector<Finding> &found);

/// Turns findings into log lines: one when a finding begins, more at growing intervals, and one when it ends.
class Alarms {
public:
    struct Line {
        PeerId about;
        std::string text;
    };
    std::vector<Line> update(Time now, const std::vector<Finding> &findings);

private:
    struct Alarm {
        Time since, next;
        Duration interval{};
        bool active = false, logged = false;
        std::string what;
    };
    std::map<std::tuple<Finding::Kind, PeerId, PeerId>, Alarm> alarms_;
};

}  // namespace pccl::protocol
