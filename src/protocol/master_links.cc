// Links between peers (link_book.h), and which newcomers could be admitted with them.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

void Master::open_link(const LinkBook::Attempt &attempt) {
    const Secret token = random_();
    const Peer &a = peers_.at(attempt.first), &b = peers_.at(attempt.second);
    const std::uint32_t lanes = std::max(a.lanes, b.lanes);
    send(a, wire::OpenLink{b.id, attempt.number, a.id == attempt.dialler, b.address, lanes, token});
    send(b, wire::OpenLink{a.id, attempt.number, b.id == attempt.dialler, a.address, lanes, token});
}

void Master::on(Peer &peer, const wire::LinkReport &report) {
    const auto change = links_.report(now_, peer.id, report);
    if (change.kind == LinkBook::Change::Kind::stale) return;
    if (change.kind == LinkBook::Change::Kind::up) return refresh_ready();
    const std::string why = "the link between " + to_string(peer.id) + " and " + to_string(report.other) +
                            (change.was_up ? " broke: " : " could not be made: ") + report.why;
    log(change.was_up ? LogLevel::warn : LogLevel::info, why);
    if (change.retry)
        open_link(*change.retry);
    else
        log(LogLevel::warn,
            to_string(peer.id) + " and " + to_string(report.other) + " cannot reach each other: they will not be neighbours");
    const Peer *other = member(report.other);
    if (change.was_up && peer.member && other) begin_freeze(peer.group, why);
    refresh_ready();
}

/// Gives the group a ring and the facts about its paths, which every member receives with the view.
void Master::set_ring(Group &group, const std::vector<PeerId> &ring) {
    group.ring = ring;
    group.full_mesh = links_.full_mesh(ring);
    group.path = links_.path_facts(ring);
}

/// Marks the newcomers as ready if one ring includes all of them: a ring can need several of them.
bool Master::make_ready(std::vector<PeerId> &joined, const std::vector<PeerId> &newcomers) {
    std::vector<PeerId> all;
    std::ranges::set_union(joined, newcomers, std::back_inserter(all));
    if (!std::ranges::all_of(newcomers, [&](PeerId id) { return links_.all_settled(id, all); })) return false;
    if (!links_.full_mesh(all) && !links_.best_ring(all, now_)) return false;
    for (const PeerId id : newcomers)
        peers_.at(id).ready = true;
    joined = std::move(all);
    return true;
}

void Master::refresh_ready() {
    fit_newcomers({});
    for (auto &[id, peer] : peers_)
        peer.fits = peer.ready;
    // An island is admitted whole. If one of its peers is missing or fits into no ring, the others also count as absent. That can
    // in turn leave other newcomers without a ring, so this repeats until no more are absent.
    std::set<PeerId> absent;
    for (;;) {
        std::set<PeerId> ready;
        for (const auto &[id, peer] : peers_) {
            if (peer.ready) ready.insert(id);
        }
        const std::size_t before = absent.size();
        absent.merge(islands_.blocked(ready));
        if (absent.size() == before) break;
        fit_newcomers(absent);
    }
    refuse_unreachable();
}

/// Marks as ready the newcomers that could be admitted if the newcomers in `absent` were not there.
void Master::fit_newcomers(const std::set<PeerId> &absent) {
    std::map<GroupId, std::vector<PeerId>> joined, waiting;
    for (auto &[id, peer] : peers_) {
        peer.ready = false;
        if (!absent.contains(id)) (peer.member ? joined : waiting)[peer.group].push_back(id);
    }
    for (const auto &[group, newcomers] : waiting)
        make_ready(joined[group], newcomers);
    // If not all fit together, try each one. One newcomer can make a ring with another possible, so this repeats until nothing
    // changes.
    for (bool changed = true; changed;) {
        changed = false;
        for (auto &[id, peer] : peers_) {
            if (peer.member || peer.ready || absent.contains(id)) continue;
            changed = make_ready(joined[peer.group], {id}) || changed;
        }
    }
}

/// Refuses newcomers that no ring includes, once waiting cannot help.
void Master::refuse_unreachable() {
    std::vector<PeerId> unreachable;
    for (const auto &[id, peer] : peers_) {
        if (peer.member || peer.fits || now_ - calls_.of(id).since < options_.misuse_grace) continue;
        // While any link of the group is being made, waiting can help: a link of another newcomer can make a ring possible.
        std::vector<PeerId> all;
        for (const auto &[other, theirs] : peers_) {
            if (theirs.group == peer.group) all.push_back(other);
        }
        const auto known = groups_.find(peer.group);
        const bool frozen = known != groups_.end() && known->second.freeze;
        const bool settled = std::ranges::all_of(all, [&](PeerId other) { return links_.all_settled(other, all); });
        if (settled && !frozen) unreachable.push_back(id);
    }
    for (const PeerId id : unreachable) {
        if (!peers_.contains(id)) continue;  // removed by the removal of the one before, which calls refresh_ready()
        std::string down;
        for (const PeerId other : members_of(peers_.at(id).group)) {
            const LinkBook::Link *link = links_.find(id, other);
            if (link && link->state == LinkBook::State::down)
                down += (down.empty() ? "" : ", ") + to_string(other) + " (" + link->why + ")";
        }
        remove(id, pcclRankConnectionFailed,
               to_string(id) + " cannot join: no ring includes it; no link to " + down +
                   "; check its firewall, or advertise an address that the others can reach");
    }
}

/// Refuses islands whose other peers did not come in time, and islands whose number is taken.
void Master::refuse_incomplete_islands() {
    const Duration limit = 3 * options_.misuse_grace;
    std::vector<PeerId> late;
    for (const auto &[id, peer] : peers_) {
        if (peer.island == 0 || peer.member || now_ - calls_.of(id).since < limit) continue;
        if (!islands_.is_whole(id) || islands_.in_run(id)) late.push_back(id);
    }
    for (const PeerId id : late) {
        const auto found = peers_.find(id);
        if (found == peers_.end()) continue;  // removed with another peer of its island
        if (islands_.in_run(id)) {
            remove(id, pcclInvalidUsage,
                   to_string(id) +
                       " cannot join: another island with the same number is in the run; give this island another number");
            continue;
        }
        const std::string came =
            std::to_string(islands_.peers_with(id).size()) + " of the " + std::to_string(found->second.island_peers);
        remove(id, pcclRankConnectionFailed,
               to_string(id) + " cannot join: " + came + " peers of its island came within " + pccl::to_string(limit) +
                   "; start all of them together");
    }
}

}  // namespace pccl::protocol
