// The master's record of the link between every two peers of a group: its current attempt, its dialler, its failures and its
// bandwidth.
//
// Guarantee: a pair that could not be linked is dialled from the other side, and then left down, so that a ring around it is
// found. A link that is down is tried again after a minute. A link that broke repeatedly within ten minutes is part of a ring
// only if no ring exists without it.
//
// Invariants, for every link: `tries` <= kMaxTries and `breaks` <= kMaxBreaks; an `up` link was reported up by both ends, has no
// failed tries and no reason to be down; a `dialing` link was not reported up by both ends. Pure. The master's thread runs it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "topology/ring.h"
#include "wire/messages.h"

namespace pccl::protocol {

class LinkBook {
public:
    enum class State { dialing, up, down };
    struct Link {
        State state = State::dialing;
        std::uint32_t attempt = 0;
        PeerId dialler;
        int tries = 0;   ///< attempts since it was last up
        int breaks = 0;  ///< times it broke; reset after kForgiveAfter without a break
        Time broke_at;
        Time down_since;
        bool first_up = false, second_up = false;  ///< reported by the peer with the smaller id, by the other one
        std::string why;                           ///< why it is not up
        std::uint32_t round_trip_us = 0;           ///< the longer of the two ends' measurements
        double mbit_forth = 0, mbit_back = 0;      ///< first to second, second to first; 0: not measured
    };
    using Pair = std::pair<PeerId, PeerId>;  ///< the smaller id first

    /// `steady`: links that are up and have not broken repeatedly within the last ten minutes. `any`: all links that are up.
    enum class Trust { steady, any };

    /// An attempt to make a link. The master must send both peers an OpenLink with this number.
    struct Attempt {
        PeerId first, second, dialler;
        std::uint32_t number = 0;
    };

    /// Starts the first or the next attempt to link two peers.
    Attempt open(PeerId a, PeerId b, PeerId dialler);

    /// The change that a report caused.
    struct Change {
        enum class Kind {
            stale,   ///< nothing: it is about an unknown pair, an older attempt or a link that is down already
            up,      ///< one end is up, or both
            failed,  ///< the link broke or could not be made
        } kind = Kind::stale;
        bool was_up = false;           ///< failed: it had been up
        std::optional<Attempt> retry;  ///< failed: the next attempt. None: the link stays down
    };
    Change report(Time now, PeerId from, const wire::LinkReport &report);

    /// Starts an attempt for every link that has been down for long enough.
    std::vector<Attempt> retry_down(Time now);
    /// Starts an attempt for a link that went down before `freeze_began`. Each pair gets one per freeze, recorded in `retried`.
    std::optional<Attempt> reopen(PeerId a, PeerId b, Time freeze_began, std::set<Pair> &retried);

    /// Deletes the links of a peer. Returns the peers at their other ends.
    std::vector<PeerId> remove(PeerId id);
    /// Makes sure that the pair has an entry, so that remove() of one returns the other.
    void add(PeerId a, PeerId b) { link(a, b); }

    /// Takes over the state that both ends reported to a restarted master. A link that is not up needs open() next.
    void restore(PeerId a, PeerId b, const wire::KnownLink &forth, const wire::KnownLink &back);
    void restore_bandwidth(PeerId first, PeerId second, double mbit_forth, double mbit_back);

    /// Mbit/s as probed; 0: not measured.
    double bandwidth(PeerId from, PeerId to) const;
    /// Ignores an unknown pair, and a value that is not a positive number.
    void set_bandwidth(PeerId from, PeerId to, double mbit_per_s);

    const Link *find(PeerId a, PeerId b) const;
    const std::map<Pair, Link> &all() const { return links_; }
    bool is_up(PeerId a, PeerId b) const;
    bool usable(PeerId a, PeerId b, Trust trust, Time now) const;
    /// True if no link between `id` and `others` is being made.
    bool all_settled(PeerId id, const std::vector<PeerId> &others) const;
    /// True if every two of `ids` have a link that is up.
    bool full_mesh(const std::vector<PeerId> &ids) const;
    topology::Matrix matrix(const std::vector<PeerId> &ids, Trust trust, Time now) const;
    /// The best ring of steady links; if there is none, the best ring of any links. None: no ring exists.
    std::optional<std::vector<PeerId>> best_ring(const std::vector<PeerId> &ids, Time now) const;
    /// Facts about the paths of a ring that all its members share.
    wire::PathFacts path_facts(const std::vector<PeerId> &ring) const;

    /// Aborts through PCCL_ASSERT, or throws, where an invariant of the head comment does not hold.
    void check_invariants() const;

private:
    Link &link(PeerId a, PeerId b) { return links_[std::minmax(a, b)]; }
    static bool steady(const Link &link, Time now);

    std::map<Pair, Link> links_;
};

}  // namespace pccl::protocol
