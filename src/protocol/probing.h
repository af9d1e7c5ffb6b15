// The schedule of bandwidth probes between members, for one pcclOptimizeTopology of the run.
//
// Guarantee: in each round every member sends to at most one other and receives from at most one, as in a ring. Pairs that are
// measured already, or have no link, are left out. If a probe fails or exceeds its time, the pair stays unmeasured.
//
// Invariants: probes are outstanding only while a measurement runs; every outstanding probe belongs to round().
// Pure. The master's thread runs it.
#pragma once

#include <compare>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "base/ids.h"
#include "base/time.h"

namespace pccl::protocol {

class Probing {
public:
    struct Probe {
        PeerId from, to;
        friend auto operator<=>(const Probe &, const Probe &) = default;
    };
    using Predicate = std::function<bool(const Probe &)>;

    /// Schedules the probes of every two members of a group for which `needed` is true.
    void start(const std::vector<std::vector<PeerId>> &groups, const Predicate &needed);
    void stop() { *this = {}; }

    bool running() const { return running_; }
    bool rounds_left() const { return !rounds_.empty(); }
    /// Probes of the current round that have not been reported.
    bool outstanding() const { return !outstanding_.empty(); }
    /// The number of the current round; later rounds have smaller numbers.
    std::uint64_t round() const { return rounds_.size(); }
    /// When the current round ends at the latest; none if no probe is outstanding.
    std::optional<Time> deadline() const { return outstanding() ? std::optional(deadline_) : std::nullopt; }

    /// The probes to start now. `possible`: both ends are still members.
    std::vector<Probe> next_round(Time deadline, const Predicate &possible);
    /// Records that a probe ended. False: no such probe is outstanding.
    bool report(std::uint64_t round, const Probe &probe);
    /// Forgets outstanding probes that are no longer possible.
    void drop_impossible(const Predicate &possible);
    /// Ends a round that exceeded its time. True if it did.
    bool expire(Time now);

    void check_invariants() const;

private:
    bool running_ = false;
    std::vector<std::vector<Probe>> rounds_;  ///< rounds to come, the next one last
    std::set<Probe> outstanding_;
    Time deadline_;
};

}  // namespace pccl::protocol
