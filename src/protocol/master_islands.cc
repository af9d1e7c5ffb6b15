// Islands: peers that hold one copy of a model together, each of a group of its own. They join and leave the run as one.
//
// Guarantee: between any two inputs either all peers of an island are members or none is, and all are admitted by one View. So where all
// members of a run are of islands with the same groups, these groups have the same islands in them in every view.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

/// A newcomer's island must be one that can be whole: it is refused where that cannot come to be.
bool Master::may_land(ConnId conn, const wire::Hello &hello) {
    if (hello.island == 0) return true;
    const auto no = [&](const std::string &why) {
        refuse(conn, pcclInvalidUsage, why);
        return false;
    };
    if (hello.island_peers == 0 || hello.island_peers > wire::kMaxPeers) return no("an island of " + std::to_string(hello.island_peers) + " peers cannot be");
    for (const auto &[id, peer] : peers_) {
        if (peer.island != hello.island || peer.member) continue;
        if (peer.group == hello.group) return no(to_string(id) + " of its island is of group " + std::to_string(hello.group.value) + ", too: each is of its own");
        if (peer.island_peers != hello.island_peers) {
            return no(to_string(id) + " says that its island has " + std::to_string(peer.island_peers) + " peers, and this one " +
                      std::to_string(hello.island_peers));
        }
    }
    return true;
}

/// Those that are here, itself among them. Newcomers may be an island begun anew, whose old peers are members until their end is heard of.
std::vector<PeerId> Master::island_of(const Peer &peer) const {
    if (peer.island == 0) return {peer.id};
    std::vector<PeerId> ids;
    for (const auto &[id, other] : peers_) {
        if (other.island == peer.island && other.member == peer.member) ids.push_back(id);
    }
    return ids;
}

bool Master::is_in_run(std::uint64_t island) const {
    return std::ranges::any_of(peers_, [&](const auto &entry) { return entry.second.member && entry.second.island == island; });
}

/// Newcomers beside those known that cannot be admitted since another of their island cannot.
std::set<PeerId> Master::stranded(const std::set<PeerId> &known) const {
    std::map<std::uint64_t, std::uint32_t> ready;
    std::set<std::uint64_t> in_run;
    for (const auto &[id, peer] : peers_) {
        if (peer.island == 0) continue;
        if (peer.member) in_run.insert(peer.island);
        else if (peer.ready) ++ready[peer.island];
    }
    std::set<PeerId> more;
    for (const auto &[id, peer] : peers_) {
        if (peer.island == 0 || peer.member || known.contains(id)) continue;
        if (ready[peer.island] < peer.island_peers || in_run.contains(peer.island)) more.insert(id);
    }
    return more;
}

/// Islands of which some peers never come, or whose number another has that stays.
void Master::refuse_stranded() {
    const Duration limit = 3 * options_.misuse_grace;
    std::vector<PeerId> late;
    for (const auto &[id, peer] : peers_) {
        if (peer.island == 0 || peer.member || now_ - peer.call_since < limit) continue;
        if (!island_is_whole(peer) || is_in_run(peer.island)) late.push_back(id);
    }
    for (const PeerId id : late) {
        const auto found = peers_.find(id);
        if (found == peers_.end()) continue;  // went with the one before
        const Peer &peer = found->second;
        if (is_in_run(peer.island)) {
            remove(id, pcclInvalidUsage, to_string(id) + " cannot join: an island of the number of its own is in the run; take another number for it");
            continue;
        }
        const std::string came = std::to_string(island_of(peer).size()) + " of the " + std::to_string(peer.island_peers);
        remove(id, pcclRankConnectionFailed,
               to_string(id) + " cannot join: " + came + " peers of its island have come within " + pccl::to_string(limit) + "; start all of them at once");
    }
}

/// What the others of an island are told, of which one left or was removed with that code. What a member did wrong, they did not.
pcclResult_t Master::told_of_island(const Peer &peer, pcclResult_t code) {
    return !peer.member || code == pcclSuccess || code == pcclRankConnectionFailed ? code : pcclMasterConnectionFailed;
}

/// Where there are no members: the oldest newcomer, or the oldest island, that is whole.
std::vector<PeerId> Master::first_of_run() const {
    for (const auto &[id, peer] : peers_) {
        if (peer.island == 0) return {id};
        if (island_is_whole(peer)) return island_of(peer);
    }
    return {};
}

}  // namespace pccl::protocol
