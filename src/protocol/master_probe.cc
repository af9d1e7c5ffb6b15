// pcclOptimizeTopology: probes between members (probing.h), and the ring that follows from their results.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;

bool Master::try_optimize() {
    if (probing_.running()) {
        if (probing_.outstanding()) return false;
        if (probing_.rounds_left()) {
            next_probe_round();
            return true;
        }
        if (any_frozen()) return false;  // the ring is chosen once the remaining members are known
        finish_probing();
        return true;
    }
    if (member_count() == 0 || any_frozen() || !all_members_in(Call::optimize_topology)) return false;
    start_probing();
    return true;
}

void Master::start_probing() {
    if (member_count() == 1) {
        decide_run(Call::optimize_topology, pcclTooFewPeers,
                   "alone in the run: there is nothing to measure. Wait for other peers to join");
        for (auto &[id, peer] : peers_) {
            if (peer.member) call_done(peer, run_outcome_.code, run_outcome_.why, run_outcome_.decision);
        }
        return;
    }
    std::vector<std::vector<PeerId>> groups;
    for (const auto &[id, group] : groups_)
        groups.push_back(members_of(id));
    probing_.start(groups, [&](const Probing::Probe &probe) {
        return links_.is_up(probe.from, probe.to) && !(links_.bandwidth(probe.from, probe.to) > 0);
    });
}

void Master::next_probe_round() {
    const auto both_members = [&](const Probing::Probe &probe) { return member(probe.from) && member(probe.to); };
    for (const auto &probe : probing_.next_round(now_ + options_.probe_duration + options_.probe_timeout, both_members)) {
        send(peers_.at(probe.from),
             wire::Probe{probing_.round(), probe.to, static_cast<std::uint32_t>(options_.probe_duration.count() / 1000)});
    }
}

void Master::on(Peer &peer, const wire::ProbeReport &report) {
    if (probing_.report(report.round, {peer.id, report.to})) links_.set_bandwidth(peer.id, report.to, report.mbit_per_s);
}

void Master::finish_probing() {
    probing_.stop();
    std::set<GroupId> changed;
    std::string why = "new ring order:";
    for (auto &[id, group] : groups_) {
        const auto ids = members_of(id);
        const auto ring = links_.best_ring(ids, now_);
        if (!ring || *ring == group.ring) continue;
        set_ring(group, *ring);
        changed.insert(id);
        const auto matrix = links_.matrix(ids, LinkBook::Trust::any, now_);
        std::vector<std::size_t> order;
        for (const PeerId p : *ring)
            order.push_back(static_cast<std::size_t>(std::ranges::find(ids, p) - ids.begin()));
        const auto [slowest, sum] = topology::quality(matrix, order);
        why += " group " + std::to_string(id.value) + " (slowest link " + std::to_string(static_cast<long>(slowest)) + " Mbit/s)";
    }
    changed_ = true;  // the journal keeps the measurements
    decide_run(Call::optimize_topology, pcclSuccess, "");
    if (!changed.empty()) publish_view(changed, {}, why);
    for (auto &[id, peer] : peers_) {
        if (peer.member && calls_.of(id).call == Call::optimize_topology) call_done(peer, pcclSuccess, "", run_outcome_.decision);
    }
}

}  // namespace pccl::protocol
