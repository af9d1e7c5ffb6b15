// A profile: the kind of run that a seed selects. It sets the program that all applications run, the network, and the faults.
#pragma once

#include <string_view>
#include <vector>

#include "base/time.h"

namespace pccl::sim {

struct Profile {
    const char *name = "";
    const char *what = "";

    // The run.
    unsigned nodes_min = 2, nodes_max = 5;  ///< nodes that start at once
    unsigned joins_max = 2;                 ///< nodes that start later, at any time
    unsigned groups_max = 1;
    /// The largest number of peers of an island. If it is not 0, all nodes belong to islands, and the numbers of nodes above
    /// count islands.
    unsigned islands_of = 0;
    Duration faults_until = std::chrono::seconds(25);

    // Faults: the largest number of each kind.
    unsigned crashes = 0, hangs = 0, long_hangs = 0, breaks = 0, aborts = 0, slow_members = 0;
    unsigned bad_paths = 0;              ///< paths between two nodes, in one direction or both; some stay bad
    unsigned cuts = 0;                   ///< cuts of the path between a node and the master, in one direction or both
    unsigned master_crashes = 0;         ///< the master is started again from its record
    unsigned targeted = 0;               ///< faults of these kinds immediately before or after a certain message
    unsigned unreachable_per_mille = 0;  ///< ordered pairs of nodes that cannot dial
    unsigned dial_fails_per_mille = 0;
    unsigned spike_per_mille = 5;
    unsigned probe_lost_per_mille = 0;

    // The program.
    unsigned drift_per_mille = 50;    ///< iterations after which a member's shared state differs
    unsigned mismatch_per_mille = 0;  ///< reduces that one member calls differently
    unsigned stale_per_mille = 0;     ///< reduces that one member calls with a shard of an older membership
    unsigned receive_only_per_mille = 0;
    unsigned forgetful_per_mille = 0;  ///< members that never increment the revision of their shared state
    bool free_tensors = true;          ///< the shared state has tensors that may differ
    bool optimizes = true;
    bool continuous = false;      ///< no fault makes a call fail
    bool repairs = false;         ///< most reduces have LossPolicy::repair; otherwise some have
    bool expects_misuse = false;  ///< callers break the rules and receive errors for it
    bool links_alone = false;     ///< only links between nodes fail, so nobody must be removed
};

const std::vector<Profile> &profiles();
const Profile *find_profile(std::string_view name);

}  // namespace pccl::sim
