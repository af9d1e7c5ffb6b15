#include "profile.h"

namespace pccl::sim {
namespace {

Profile profile(const char *name, const char *what, void (*set)(Profile &)) {
    Profile p;
    p.name = name;
    p.what = what;
    set(p);
    return p;
}

}  // namespace

const std::vector<Profile> &profiles() {
    static const std::vector<Profile> all = {
        profile("calm", "no faults; peers join at any time", [](Profile &p) { p.joins_max = 4; }),
        profile("crash", "peers die at any time and immediately before or after certain messages",
                [](Profile &p) {
                    p.crashes = 4;
                    p.targeted = 3;
                    p.joins_max = 4;
                }),
        profile("hang", "peers hang for shorter and longer than the heartbeat limit",
                [](Profile &p) {
                    p.hangs = 4;
                    p.long_hangs = 2;
                    p.targeted = 2;
                }),
        profile("links", "links between live peers break, and some pairs cannot dial each other",
                [](Profile &p) {
                    p.breaks = 6;
                    p.targeted = 3;
                    p.unreachable_per_mille = 150;
                    p.free_tensors = false;
                }),
        profile("paths", "paths between live peers lose data, in one direction or both, for a time or for good; links break",
                [](Profile &p) {
                    p.nodes_min = 3;
                    p.nodes_max = 6;
                    p.joins_max = 2;
                    p.bad_paths = 6;
                    p.breaks = 2;
                    p.targeted = 2;
                    p.free_tensors = false;
                    p.drift_per_mille = 200;
                    p.links_alone = true;
                }),
        profile("churn", "many peers join and leave",
                [](Profile &p) {
                    p.nodes_max = 6;
                    p.joins_max = 10;
                    p.crashes = 7;
                    p.targeted = 4;
                    p.dial_fails_per_mille = 100;
                }),
        profile("groups", "several peer groups, all faults",
                [](Profile &p) {
                    p.nodes_min = 3;
                    p.nodes_max = 7;
                    p.joins_max = 4;
                    p.groups_max = 3;
                    p.crashes = 2;
                    p.hangs = 1;
                    p.breaks = 2;
                    p.targeted = 2;
                }),
        profile("state", "shared state that differs often; sources and receivers die",
                [](Profile &p) {
                    p.drift_per_mille = 500;
                    p.receive_only_per_mille = 200;
                    p.forgetful_per_mille = 300;
                    p.crashes = 3;
                    p.breaks = 1;
                    p.targeted = 3;
                    p.joins_max = 5;
                }),
        profile("abort", "applications abort their calls and connect again",
                [](Profile &p) {
                    p.aborts = 5;
                    p.targeted = 3;
                    p.crashes = 1;
                }),
        profile("mismatch", "callers of a reduce disagree, while peers die",
                [](Profile &p) {
                    p.mismatch_per_mille = 60;
                    p.crashes = 2;
                    p.targeted = 2;
                    p.expects_misuse = true;
                }),
        profile("stale", "reduces with shards of an older membership, while peers die",
                [](Profile &p) {
                    p.stale_per_mille = 60;
                    p.crashes = 3;
                    p.targeted = 3;
                    p.joins_max = 3;
                }),
        profile("master", "the master dies repeatedly; no peer dies",
                [](Profile &p) {
                    p.master_crashes = 8;
                    p.targeted = 4;
                    p.joins_max = 3;
                    p.drift_per_mille = 200;
                    p.continuous = true;
                }),
        profile("master_and_peers", "the master dies, and peers die, hang and abort meanwhile",
                [](Profile &p) {
                    p.master_crashes = 5;
                    p.crashes = 3;
                    p.hangs = 1;
                    p.breaks = 2;
                    p.aborts = 1;
                    p.targeted = 4;
                    p.joins_max = 4;
                    p.groups_max = 2;
                    p.forgetful_per_mille = 200;
                    p.drift_per_mille = 200;
                    p.free_tensors = false;
                }),
        profile("partition", "nodes are cut off from the master, in one direction or both, while it dies and restarts",
                [](Profile &p) {
                    p.cuts = 5;
                    p.master_crashes = 2;
                    p.crashes = 1;
                    p.breaks = 1;
                    p.targeted = 3;
                    p.joins_max = 3;
                    p.groups_max = 2;
                    p.free_tensors = false;
                }),
        profile("repair", "most reduces are repaired when members are lost, repeatedly; some are not",
                [](Profile &p) {
                    p.repairs = true;
                    p.nodes_max = 6;
                    p.joins_max = 4;
                    p.crashes = 5;
                    p.breaks = 3;
                    p.aborts = 1;
                    p.slow_members = 1;
                    p.master_crashes = 2;
                    p.targeted = 5;
                    p.spike_per_mille = 50;
                }),
        profile("islands", "peers join and leave as islands, some of which are never complete; all faults",
                [](Profile &p) {
                    p.islands_of = 3;
                    p.nodes_max = 3;
                    p.joins_max = 1;
                    p.crashes = 3;
                    p.hangs = 1;
                    p.breaks = 2;
                    p.aborts = 1;
                    p.master_crashes = 2;
                    p.targeted = 4;
                    p.free_tensors = false;
                }),
        profile("everything", "all faults at once",
                [](Profile &p) {
                    p.nodes_max = 7;
                    p.joins_max = 6;
                    p.groups_max = 2;
                    p.crashes = 3;
                    p.hangs = 2;
                    p.long_hangs = 1;
                    p.breaks = 4;
                    p.bad_paths = 2;
                    p.master_crashes = 1;
                    p.cuts = 2;
                    p.aborts = 2;
                    p.slow_members = 2;
                    p.targeted = 4;
                    p.unreachable_per_mille = 20;
                    p.dial_fails_per_mille = 50;
                    p.spike_per_mille = 20;
                    p.probe_lost_per_mille = 100;
                    p.forgetful_per_mille = 100;
                    p.drift_per_mille = 200;
                    p.free_tensors = false;
                }),
    };
    return all;
}

const Profile *find_profile(std::string_view name) {
    for (const auto &p : profiles()) {
        if (p.name == name) return &p;
    }
    return nullptr;
}

}  // namespace pccl::sim
