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

    /// Adds a newcomer. `island` 0: it has no island, and nothing is recorded.
    void add(PeerId id, GroupId group, std::uint64_t island, std::uint32_t island_peers);
    /// The newcomer has become a member.
    void admit(PeerId id);
    void remove(PeerId id);

    /// The connected peers of its island, in order of id, including itself: the members if it is a member, otherwise the
    /// newcomers. {id} for a peer without an island.
    std::vector<PeerId> peers_with(PeerId id) const;
    /// True if all peers of its island are connected.
    bool is_whole(PeerId id) const;
    /// True if its island, or another one with the same number, has members.
    bool in_run(PeerId id) const;
    /// Newcomers that cannot be admitted because their island cannot: some of its peers are not in `ready`, or an island with its
    /// number has members.
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

/// The code for the other peers of an island when one of its peers leaves or is removed with `code`. `member`: they are members.
/// A member's mistake is not theirs, so they get no code that names a mistake.
pcclResult_t island_removal_code(bool member, pcclResult_t code);

}  // namespace pccl::protocol
