// Islands: peers that hold one copy of a model together, each in a group of its own. They join and leave the run together.
//
// Guarantee: between any two inputs of the master either all peers of an island are members or none is, and one View admits them
// all. So if every member of a run belongs to an island and all islands have the same groups, these groups contain the same
// islands in every view.
//
// Invariants: peers of one island with the same membership are in different groups and give the same number of peers.
// Newcomers can have the number of an island that is in the run: an island that restarted before the master noticed its end.
// Pure. The master's thread runs it.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/ids.h"
#include "wire/messages.h"

namespace pccl::protocol {

class Islands {
public:
    /// Why a newcomer cannot be a peer of the island in its Hello; "" if it can, or if it names no island.
    std::string reason_to_refuse(const wire::Hello &hello) const;

    /// A newcomer. `island` 0: it is on its own, and nothing is recorded.
    void add(PeerId id, GroupId group, std::uint64_t island, std::uint32_t island_peers);
    /// It is a member from now on.
    void admit(PeerId id);
    void remove(PeerId id);

    /// The peers of its island that are connected and are members as it is, in order of id, itself among them. {id} for a peer on
    /// its own.
    std::vector<PeerId> peers_with(PeerId id) const;
    /// All peers of its island have come.
    bool is_whole(PeerId id) const;
    /// Its island, or another with the same number, has members.
    bool in_run(PeerId id) const;
    /// Newcomers that cannot be admitted because their island cannot: fewer than all of it are in `ready`, or its number is in
    /// the run.
    std::set<PeerId> blocked(const std::set<PeerId> &ready) const;

    void check_invariants() const;

private:
    struct Resident {
        GroupId group;
        std::uint64_t island = 0;
        std::uint32_t island_peers = 0;
        bool member = false;
    };
    std::map<PeerId, Resident> residents_;
};

/// The code that the other peers of an island get when one of it leaves or is removed with `code`. What a member did wrong, they
/// did not.
pcclResult_t island_removal_code(bool member, pcclResult_t code);

}  // namespace pccl::protocol
