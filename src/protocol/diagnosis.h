// Who holds whom up, from what members report: follows who waits for whom to the one that waits for nobody, and names it with evidence.
//
//   hung        a peer that others wait for and that does not answer the master
//   dead path   bytes from one peer to another that are not acknowledged, while both answer the master
//   straggler   a peer that does not make the call in which half of the members wait, and waits for nobody itself
//   slow link   the one link that always has more to send than it can, while those beside it are waiting for data
//   no progress all are in the operation, nothing moves, and none of the above explains it
//
// Follows the distinction of Dong et al., "Boosting large-scale parallel training efficiency with C4" (2024): hang or slowness, in
// communication or outside it, at the sender, the path or the receiver. Pure; it never removes anybody.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "wire/messages.h"

namespace pccl::protocol {

/// What the master knows at one moment.
struct Snapshot {
    struct Member {
        PeerId id;
        GroupId group;
        std::string name;  ///< with its address
        Duration silent{};
        bool waits = false;  ///< all its callers do, for something
    };
    /// A call that some make and others do not.
    struct Wait {
        std::string call;
        std::vector<std::pair<PeerId, Duration>> waiting;  ///< and for how long
        std::vector<PeerId> missing;
        std::size_t members = 0;                           ///< that are to make it
    };
    std::vector<Member> members;  ///< by id
    std::vector<Wait> waits;
    std::vector<OpId> entered;    ///< operations that every member of its group has called and some have not finished
};

struct Thresholds {
    Duration hung, dead_path, straggler, no_progress;  ///< after which it is spoken of
};

struct Finding {
    enum class Kind { hung, dead_path, straggler, slow_link, no_progress } kind;
    PeerId who;
    PeerId other;  ///< of a path
    Duration lasting{};
    std::string what;      ///< "peer 3 holds the others up": what begins and ends
    std::string evidence;
};

class Diagnosis {
public:
    void report(Time now, PeerId from, const wire::ProgressReport &progress);
    void forget(PeerId id);
    /// To be asked about once a second: a slow link is one that is so for several times in a row.
    std::vector<Finding> findings(Time now, const Snapshot &snapshot, const Thresholds &limits);
    /// Whether the host of a silent peer still acknowledges what others send it; "" if nobody knows.
    std::string evidence_on(Time now, PeerId silent) const;

    /// Of operations in the peer's last report, if it is fresh.
    const std::vector<wire::OpProgress> &ops_of(Time now, PeerId id) const;

private:
    struct Report {
        Time at;
        wire::ProgressReport progress;
    };
    /// Between two reports.
    struct Pace {
        PeerId from, to;
        double backlogged = 0;  ///< share of the time
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
    std::map<std::pair<PeerId, PeerId>, int> slow_;  ///< how often in a row
};

/// Stragglers: exposed for what removes them.
void find_stragglers(const Snapshot &snapshot, const Thresholds &limits, std::vector<Finding> &found);

/// Turns findings into lines of a log: one when it begins, then ever more rarely, one when it has ended.
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
        bool standing = false, said = false;
        std::string what;
    };
    std::map<std::tuple<Finding::Kind, PeerId, PeerId>, Alarm> alarms_;
};

}  // namespace pccl::protocol
