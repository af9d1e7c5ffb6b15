// How far operations are that have been open for long, and how the links do, for the master to tell who holds whom up. I/O thread only.
#pragma once

#include <map>

#include "peer/engine.h"

namespace pccl::peer {

class Examiner {
public:
    Examiner(Engine &engine, LinkTable &links) : engine_(engine), links_(links) {}

    /// Of operations that the protocol believes to be in flight.
    wire::ProgressReport examine(Time now, const std::vector<OpId> &ops);

private:
    /// As it was when bytes of it were last seen to have moved.
    struct Seen {
        std::uint64_t bytes = 0;
        Time since;
    };

    Engine &engine_;
    LinkTable &links_;
    std::map<OpId, Seen> seen_;
};

}  // namespace pccl::peer
