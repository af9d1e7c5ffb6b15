// What kind of run a seed stands for: the program that all applications run, the network, and which faults strike.
#pragma once

#include <string_view>
#include <vector>

#include "base/time.h"

namespace pccl::sim {

struct Profile {
    const char *name = "";
    const char *what = "";

    // The run.
    unsigned nodes_min = 2, nodes_max = 5;  ///< that start at once
    unsigned joins_max = 2;                 ///< that come later, at any time
    unsigned groups_max = 1;
    unsigned islands_of = 0;                ///< peers, at most: then all nodes are of islands, and so many islands come as else nodes
    Duration faults_until = std::chrono::seconds(25);

    // Faults: how many of each at most.
    unsigned crashes = 0, hangs = 0, long_hangs = 0, breaks = 0, aborts = 0, slow_members = 0;
    unsigned bad_paths = 0;              ///< between two nodes, in one direction or both; some for good
    unsigned cuts = 0;                   ///< of the path between a node and the master, in one direction or both
    unsigned master_crashes = 0;         ///< of the master, which is started again from its record
    unsigned targeted = 0;               ///< of those kinds, right before or after a certain message
    unsigned unreachable_per_mille = 0;  ///< ordered pairs of nodes that cannot dial
    unsigned dial_fails_per_mille = 0;
    unsigned spike_per_mille = 5;
    unsigned probe_lost_per_mille = 0;

    // The program.
    unsigned drift_per_mille = 50;    ///< iterations after which a member's shared state differs
    unsigned mismatch_per_mille = 0;  ///< reduces that one member calls differently
    unsigned stale_per_mille = 0;     ///< that one member calls with a shard of members that are no more
    unsigned receive_only_per_mille = 0;
    unsigned forgetful_per_mille = 0;  ///< members that never count the revision of their shared state
    bool free_tensors = true;  ///< the shared state has tensors that may differ
    bool optimizes = true;
    bool continuous = false;      ///< nothing happens that may make a call fail
    bool repairs = false;         ///< most reduces are to be repaired; else some
    bool expects_misuse = false;  ///< callers break the rules: they are told so
    bool links_alone = false;     ///< nothing fails but links between nodes: nobody is to be removed
};

const std::vector<Profile> &profiles();
const Profile *find_profile(std::string_view name);

}  // namespace pccl::sim
