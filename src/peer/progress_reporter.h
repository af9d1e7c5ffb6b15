// Reports the progress of long operations and their links to the master, so that it can find the member that others wait for. I/O
// thread only.
#pragma once

#include <map>

#include "peer/engine.h"

namespace pccl::peer {

class ProgressReporter {
public:
    ProgressReporter(Engine &engine, LinkTable &links) : engine_(engine), links_(links) {}

    /// Reports on `ops`, the operations that the protocol believes to be in flight. Operations that have ended here are left out.
    wire::ProgressReport report(Time now, const std::vector<OpId> &ops);

private:
    /// The bytes that an operation had moved, and the time of the first report with that number.
    struct Seen {
        std::uint64_t bytes = 0;
        Time since;
    };

    Engine &engine_;
    LinkTable &links_;
    std::map<OpId, Seen> seen_;
};

}  // namespace pccl::peer
