// One run from a seed: programs, network and faults drawn from a profile, watched by all checkers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkers/checker.h"
#include "cluster.h"
#include "profile.h"

namespace pccl::sim {

struct RunOptions {
    const Profile *profile = nullptr;
    std::uint64_t seed = 0;
    Observer *transcript = nullptr;                ///< not owned; may be null
    std::function<void(Cluster &)> sabotage = {};  ///< called before the first event
};

struct RunReport {
    std::vector<std::string> violations;
    std::uint64_t events = 0;
    std::uint64_t reduced = 0;  ///< successful reduces, over all members
    Duration virtual_time{};
};

RunReport run(const RunOptions &options);

/// The last lines of the transcript before the first violation.
std::string last_lines(RunOptions options, std::size_t count);
/// The command line that runs it again with a transcript.
std::string replay_command(const RunOptions &options);

}  // namespace pccl::sim
