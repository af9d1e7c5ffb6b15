// See islands.h.
#include "protocol/islands.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace pccl::protocol {

std::string Islands::reason_to_refuse(const wire::Hello &hello) const {
    if (hello.island == 0) return "";
    if (hello.island_peers == 0 || hello.island_peers > wire::kMaxPeers) {
        return "invalid island: it has " + std::to_string(hello.island_peers) + " peers; give a number from 1 to " +
               std::to_string(wire::kMaxPeers);
    }
    for (const auto &[id, resident] : residents_) {
        if (resident.island != hello.island || resident.member) continue;
        if (resident.group == hello.group) {
            return "invalid island: its " + to_string(id) + " is in group " + std::to_string(hello.group.value) +
                   ", too; give each peer of an island a group of its own";
        }
        if (resident.island_peers != hello.island_peers) {
            return "invalid island: its " + to_string(id) + " gives it " + std::to_string(resident.island_peers) +
                   " peers and this peer gives it " + std::to_string(hello.island_peers) +
                   "; give the same number at all of them";
        }
    }
    return "";
}

void Islands::add(PeerId id, GroupId group, std::uint64_t island, std::uint32_t island_peers) {
    if (island != 0) residents_[id] = {group, island, island_peers, false};
}

void Islands::admit(PeerId id) {
    if (const auto found = residents_.find(id); found != residents_.end()) found->second.member = true;
}

void Islands::remove(PeerId id) { residents_.erase(id); }

std::vector<PeerId> Islands::peers_with(PeerId id) const {
    const auto found = residents_.find(id);
    if (found == residents_.end()) return {id};
    std::vector<PeerId> ids;
    for (const auto &[other, resident] : residents_) {
        if (resident.island == found->second.island && resident.member == found->second.member) ids.push_back(other);
    }
    return ids;
}

bool Islands::is_whole(PeerId id) const {
    const auto found = residents_.find(id);
    return found == residents_.end() || peers_with(id).size() >= found->second.island_peers;
}

bool Islands::in_run(PeerId id) const {
    const auto found = residents_.find(id);
    return found != residents_.end() && std::ranges::any_of(residents_, [&](const auto &entry) {
               return entry.second.member && entry.second.island == found->second.island;
           });
}

std::set<PeerId> Islands::blocked(const std::set<PeerId> &ready) const {
    std::map<std::uint64_t, std::uint32_t> ready_peers;
    std::set<std::uint64_t> in_run;
    for (const auto &[id, resident] : residents_) {
        if (resident.member)
            in_run.insert(resident.island);
        else if (ready.contains(id))
            ++ready_peers[resident.island];
    }
    std::set<PeerId> found;
    for (const auto &[id, resident] : residents_) {
        if (resident.member) continue;
        if (ready_peers[resident.island] < resident.island_peers || in_run.contains(resident.island)) found.insert(id);
    }
    return found;
}

void Islands::check_invariants() const {
    std::map<std::pair<std::uint64_t, bool>, std::set<GroupId>> groups;
    std::map<std::pair<std::uint64_t, bool>, std::uint32_t> sizes;
    for (const auto &[id, resident] : residents_) {
        const std::pair key{resident.island, resident.member};
        PCCL_ASSERT(resident.island != 0);
        PCCL_ASSERT(groups[key].insert(resident.group).second);
        PCCL_ASSERT(sizes.try_emplace(key, resident.island_peers).first->second == resident.island_peers);
    }
    // The newcomers of an island can still arrive. Its members are all there, or it would have left.
    for (const auto &[key, peers] : sizes)
        PCCL_ASSERT(!key.second || groups[key].size() == peers);
}

pcclResult_t island_removal_code(bool member, pcclResult_t code) {
    return !member || code == pcclSuccess || code == pcclRankConnectionFailed ? code : pcclMasterConnectionFailed;
}

}  // namespace pccl::protocol
