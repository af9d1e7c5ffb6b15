// Measuring the paths between members, and the ring that follows from it.
//
// In each round every member sends to at most one other and receives from at most one, as in a ring; pairs measured before are
// left out. A path that fails or takes too long counts as not measured.
#include "protocol/master.h"

#include <algorithm>
#include <cmath>

namespace pccl::protocol {

using wire::Call;

bool Master::try_optimize() {
    if (optimize_.running) {
        if (!optimize_.outstanding.empty()) return false;
        if (!optimize_.rounds.empty()) {
            next_probe_round();
            return true;
        }
        if (any_frozen()) return false;  // the ring is found once it is known who is left
        finish_optimize();
        return true;
    }
    if (member_count() == 0 || any_frozen() || !all_members_in(Call::optimize_topology)) return false;
    start_optimize();
    return true;
}

void Master::start_optimize() {
    if (member_count() == 1) {
        decide_run(Call::optimize_topology, pcclTooFewPeers, "alone in the run: there is nothing to measure. Wait for other peers to join");
        for (auto &[id, peer] : peers_) {
            if (peer.member) call_done(peer, answer_.code, answer_.why, answer_.decision);
        }
        return;
    }
    optimize_ = {};
    optimize_.running = true;
    std::map<std::size_t, std::vector<ProbeEdge>> by_shift;
    for (const auto &[id, group] : groups_) {
        const auto ids = members_of(id);
        for (std::size_t shift = 1; shift < ids.size(); ++shift) {
            for (std::size_t i = 0; i < ids.size(); ++i) {
                const PeerId from = ids[i], to = ids[(i + shift) % ids.size()];
                const Pair *link = find_pair(from, to);
                const bool known =
                    !link || link->state != Pair::State::up || (from < to ? link->mbit_forth : link->mbit_back) > 0;
                if (!known) by_shift[shift].push_back({from, to});
            }
        }
    }
    for (auto &[shift, edges] : by_shift)
        optimize_.rounds.push_back(std::move(edges));
    std::ranges::reverse(optimize_.rounds);
}

void Master::next_probe_round() {
    auto edges = std::move(optimize_.rounds.back());
    optimize_.rounds.pop_back();
    optimize_.round_deadline = now_ + options_.probe_duration + options_.probe_timeout;
    for (const ProbeEdge &edge : edges) {
        const Peer *from = member(edge.from);
        if (!from || !member(edge.to)) continue;
        optimize_.outstanding.insert(edge);
        send(*from,
             wire::Probe{optimize_.rounds.size(), edge.to, static_cast<std::uint32_t>(options_.probe_duration.count() / 1000)});
    }
}

void Master::on_probe_report(Peer &peer, const wire::ProbeReport &report) {
    if (!optimize_.running || report.round != optimize_.rounds.size()) return;
    if (optimize_.outstanding.erase({peer.id, report.to}) == 0) return;
    const auto found = pairs_.find(std::minmax(peer.id, report.to));
    if (found == pairs_.end() || !std::isfinite(report.mbit_per_s) || report.mbit_per_s <= 0) return;
    (peer.id < report.to ? found->second.mbit_forth : found->second.mbit_back) = report.mbit_per_s;
}

void Master::drop_dead_probes() {
    std::erase_if(optimize_.outstanding, [&](const ProbeEdge &edge) { return !member(edge.from) || !member(edge.to); });
}

void Master::finish_optimize() {
    optimize_ = {};
    std::set<GroupId> changed;
    std::string why = "new ring order:";
    for (auto &[id, group] : groups_) {
        const auto ids = members_of(id);
        const auto ring = ring_of(ids);
        if (!ring || *ring == group.ring) continue;
        set_ring(group, *ring);
        changed.insert(id);
        const auto matrix = matrix_of(ids, Trust::any);
        std::vector<std::size_t> order;
        for (const PeerId p : *ring)
            order.push_back(static_cast<std::size_t>(std::ranges::find(ids, p) - ids.begin()));
        const auto [slowest, sum] = topology::quality(matrix, order);
        why += " group " + std::to_string(id.value) + " (slowest link " + std::to_string(static_cast<long>(slowest)) + " Mbit/s)";
    }
    changed_ = true;  // what was measured, too
    decide_run(Call::optimize_topology, pcclSuccess, "");
    if (!changed.empty()) publish_view(changed, {}, why);
    for (auto &[id, peer] : peers_) {
        if (peer.member && peer.call == Call::optimize_topology) call_done(peer, pcclSuccess, "", answer_.decision);
    }
}

}  // namespace pccl::protocol
