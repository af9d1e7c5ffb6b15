// A master takes the place of one that ended: its members come back, report the decisions that they know (recovery.h), and agree
// again.
//
// The journal's record gives the members and their view. Nothing is decided before all of them are back or the recovery window is
// over, so the rest of the machine never sees a run of which only a part is known.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;
using wire::RecoveryReport;

// -------------------------------------------------------------------------------------------------------------- the record --

GraphRecord Master::graph_record(const Group &group) {
    GraphRecord record{group.graph.spec(), group.graph_epoch, group.graph.changes(), group.graph.members(), {}};
    for (const auto &[a, b] : group.graph.edges())
        record.edges.push_back({a, b});
    return record;
}

Record Master::record() const {
    Record record;
    record.run = run_;
    record.starts = starts_;
    record.view = view_;
    record.view_groups = published_.sizes;
    record.view_generation = published_.generation;
    record.next_peer = reserved_peers_;
    record.generation = generation_;
    record.answer = run_outcome_;
    for (const auto &[id, peer] : peers_) {
        if (peer.member)
            record.members.push_back({id, peer.group, peer.secret, peer.address, peer.lanes, peer.island, peer.island_peers});
    }
    for (const auto &[id, group] : groups_) {
        const SyncState &sync = group.sync;
        wire::View view = view_of(group);
        view.number = {};  // so that this part of the record changes only with its group
        view.groups.clear();
        view.generation = 0;
        record.groups.push_back({id,
                                 std::move(view),
                                 group.outcome,
                                 sync.history.synced,
                                 sync.history.revision,
                                 {sync.last_members.begin(), sync.last_members.end()},
                                 sync.history.schema,
                                 graph_record(group)});
    }
    for (const auto &[ids, link] : links_.all()) {
        const bool measured = link.mbit_forth > 0 || link.mbit_back > 0;
        if (measured && peers_.at(ids.first).member && peers_.at(ids.second).member)
            record.paths.push_back({ids.first, ids.second, link.mbit_forth, link.mbit_back});
    }
    return record;
}

void Master::restore(const Record &record) {
    run_ = record.run;
    starts_ = record.starts;
    view_ = record.view;
    published_ = {record.view_groups, record.view_generation};
    next_peer_ = reserved_peers_ = record.next_peer;
    generation_ = record.generation;
    run_outcome_ = record.answer;
    for (const MemberRecord &known : record.members) {
        Peer peer;
        peer.id = known.id;
        peer.group = known.group;
        peer.secret = known.secret;
        peer.address = known.address;
        peer.lanes = std::min<std::uint32_t>(known.lanes, wire::kMaxLanes);
        peer.island = known.island;
        peer.island_peers = known.island_peers;
        peer.member = true;
        calls_.add(peer.id, peer.group, Call::none, {});
        islands_.add(peer.id, peer.group, peer.island, peer.island_peers);
        islands_.admit(peer.id);
        peers_.emplace(known.id, std::move(peer));
    }
    for (const GroupRecord &known : record.groups) {
        Group &group = groups_[known.id];
        group.epoch = known.view.epoch;
        group.ring = known.view.ring;
        group.full_mesh = known.view.full_mesh;
        group.path = known.view.path;
        group.begun = known.view.begun;
        group.repaired = known.view.repaired;
        group.why = known.view.why;
        group.outcome = known.answer;
        group.sync.revision = known.revision;
        group.sync.history = {known.synced, known.revision, known.schema};
        group.sync.last_members = {known.last_members.begin(), known.last_members.end()};
        std::vector<topology::Graph::Edge> edges;
        for (const auto &edge : known.graph.edges)
            edges.emplace_back(edge.first, edge.second);
        group.graph = topology::Graph(known.graph.spec, known.graph.changes, known.graph.members, edges);
        group.graph_epoch = known.graph.epoch;
    }
    for (const PathRecord &path : record.paths) {
        if (path.first >= path.second || !member(path.first) || !member(path.second)) continue;
        links_.restore_bandwidth(path.first, path.second, path.mbit_forth, path.mbit_back);
    }
    if (!peers_.empty()) recovery_.emplace();
}

// ------------------------------------------------------------------------------------------------------------- coming back --

void Master::on_resume(ConnId conn, const wire::Resume &resume) {
    if (!compatible(conn, resume.hello)) return;
    const auto again = "; call pcclConnect to join again";
    const auto found = peers_.find(resume.peer);
    const bool known = resume.run == run_ && found != peers_.end() && found->second.secret == resume.secret;
    if (!known && !resume.member) return on_hello(conn, resume.hello);
    if (resume.run != run_) {
        return refuse(conn, pcclMasterConnectionFailed,
                      to_string(resume.peer) + " belongs to another run: another master uses this address now" + again);
    }
    if (!known || !recovery_) {
        return refuse(conn, pcclMasterConnectionFailed,
                      to_string(resume.peer) + " is not a member of this run any more: it was away for too long, or was removed" +
                          again);
    }
    if (resume.view > view_) {
        return refuse(conn, pcclMasterConnectionFailed,
                      to_string(resume.peer) + " has view " + std::to_string(resume.view.value) +
                          ", and the journal ends at view " + std::to_string(view_.value) + ": the journal is out of date" +
                          again);
    }
    Peer &peer = found->second;
    if (peer.conn != ConnId{}) {  // the end of its last connection has not been noticed yet
        effects_->push_back(CloseConnection{peer.conn, to_string(peer.id) + " came back on another connection"});
        by_conn_.erase(peer.conn);
        disconnect_again(peer);
    }
    peer.conn = conn;
    peer.last_heard = now_;
    peer.address = reachable_at(conn, resume.hello);
    new_connections_.erase(conn);
    by_conn_[conn] = peer.id;
    welcome(peer);
}

void Master::during_recovery(Peer &peer, const wire::ToMaster &message) {
    if (std::holds_alternative<wire::Heartbeat>(message)) return;
    if (std::holds_alternative<wire::Leave>(message)) return recovery_->leave(peer.id);
    const auto *report = std::get_if<RecoveryReport>(&message);
    if (report && well_formed(*report, view_, groups_.at(peer.group).epoch)) return recovery_->report(peer.id, *report);
    const std::string why = to_string(peer.id) + " broke the protocol (" + name_of(message) + " to a master that has restarted)";
    log(LogLevel::warn, why);
    send(peer, wire::Removed{pcclInvalidUsage, why});
    effects_->push_back(CloseConnection{peer.conn, why});
    by_conn_.erase(peer.conn);
    disconnect_again(peer);
    recovery_->leave(peer.id);
}

/// The peer can come back again while the window is open.
void Master::disconnect_again(Peer &peer) {
    peer.conn = {};
    recovery_->disconnect(peer.id);
}

bool Master::recovered() const {
    return now_ >= recovery_->deadline() ||
           std::ranges::all_of(peers_, [&](const auto &entry) { return recovery_->is_settled(entry.first); });
}

RecoveryReports Master::reports_of(GroupId group, const RecoveryReports &reports) const {
    RecoveryReports own;
    for (const auto &[id, report] : reports) {
        if (const auto peer = peers_.find(id); peer != peers_.end() && peer->second.group == group) own.emplace(id, report);
    }
    return own;
}

void Master::finish_recovery() {
    const Recovery recovery = std::move(*recovery_);
    recovery_.reset();
    RecoveryReports reports = recovery.present();
    log(LogLevel::warn, "this master takes the place of one that ended: " + std::to_string(reports.size()) + " of " +
                            std::to_string(peers_.size()) + " members came back to view " + std::to_string(view_.value));
    next_silence_ = now_;
    apply_run_knowledge(reports);
    std::map<GroupId, GroupKnowledge> known;
    for (auto &[id, group] : groups_)
        known[id] = apply_group_knowledge(group, reports_of(id, reports));
    // Every member first receives what others know, so that it can end the calls of this epoch, and only then a freeze or a lost
    // link.
    for (const auto &[id, report] : reports)
        catch_up(peers_.at(id), report, known.at(peers_.at(id).group));
    for (const auto &[id, group_knowledge] : known) {
        if (!groups_.contains(id)) continue;  // removed with a member of another group, of the same island
        resume_freeze(id, groups_.at(id), reports_of(id, reports));
        // Members whose answer to the freeze was invalid are removed now.
        std::erase_if(reports, [&](const auto &entry) { return !member(entry.first); });
        const auto group = groups_.find(id);
        if (group == groups_.end()) continue;
        commit_held_by_all_present(id, group->second, reports);
        resume_links(id, reports_of(id, reports));
    }

    calls_.restart_clocks(now_);
    remove_missing(recovery, reports);
    for (const auto &[id, report] : reports) {
        Peer *peer = member(id);
        if (!peer) continue;
        const Group &group = groups_.at(peer->group);
        if (report.aborted && report.epoch == group.epoch) freeze_for_abort(peer->group, to_string(id) + " aborted its calls");
        send(*peer, wire::Resumed{generation_, run_outcome_.decision});
        if (group.graph_epoch > 0) send(*peer, neighbours_of(*peer, 0));  // it may not have received the last change
    }
    for (const auto &[conn, hello] : std::exchange(waiting_hellos_, {})) {
        if (new_connections_.contains(conn)) on_hello(conn, hello);
    }
    refresh_ready();
}

/// Runs before anything ends the epoch: an operation whose result all present members hold can have been committed at an absent
/// one.
void Master::commit_held_by_all_present(GroupId id, Group &group, const RecoveryReports &reports) {
    auto present = members_of(id);
    std::erase_if(present, [&](PeerId m) { return !reports.contains(m); });
    if (!group.freeze && !present.empty()) commit_complete(group, present);
}

void Master::remove_missing(const Recovery &recovery, const RecoveryReports &reports) {
    std::set<PeerId> missing;
    for (const auto &[id, peer] : peers_) {
        if (!reports.contains(id)) missing.insert(id);
    }
    for (const auto &[id, report] : reports) {
        for (const auto &link : report.links) {
            if (missing.contains(link.other)) links_.add(id, link.other);  // so that the present peer is sent CloseLink
        }
    }
    for (const PeerId id : missing) {
        const bool left = recovery.has_left(id);
        remove(id, left ? pcclSuccess : pcclMasterConnectionFailed,
               to_string(id) + (left ? " left"
                                     : " was lost: it did not come back to the restarted master within " +
                                           pccl::to_string(options_.recovery_window)));
    }
    for (auto &[id, group] : groups_) {
        const auto members = members_of(id);
        const std::set<PeerId> ring(group.ring.begin(), group.ring.end());
        if (ring != std::set<PeerId>(members.begin(), members.end()))
            begin_freeze(id, "a member was lost before the master ended");
    }
}

// ------------------------------------------------------------------------------------------------- applying what members know --

void Master::apply_run_knowledge(const RecoveryReports &reports) {
    for (const auto &[id, report] : reports) {
        generation_ = std::max(generation_, report.generation);
        if (report.run_outcome.decision > run_outcome_.decision) run_outcome_ = report.run_outcome;
    }
    for (const auto &[id, report] : reports) {
        if (report.generation != generation_) continue;
        const bool any_yes = report.yes_from != RecoveryReport::kNever;
        questions_.restore(peers_.at(id).group, report.answered, any_yes ? std::optional(report.yes_from) : std::nullopt);
    }
}

GroupKnowledge Master::apply_group_knowledge(Group &group, const RecoveryReports &reports) {
    GroupKnowledge known = merge_group(group.epoch, group.outcome, reports);
    group.outcome = known.outcome;
    group.commits = std::max(group.commits, known.commit_count);
    restore_tags(group, known.forgotten);
    for (const auto &[op, failed] : known.failures)
        group.failed.insert(op);
    group.done = known.done;
    for (const auto &[op, holders] : known.done) {
        for (const PeerId holder : holders)
            ++peers_.at(holder).open_done;
    }
    for (const auto &[id, report] : reports) {
        if (report.epoch == group.epoch) peers_.at(id).commits_received = group.commits;  // true after catch_up()
    }
    return known;
}

/// A freeze that any member received continues at all members.
void Master::resume_freeze(GroupId id, Group &group, const RecoveryReports &reports) {
    const auto answered = [&](const RecoveryReport &report) { return report.epoch == group.epoch && !report.frozen.empty(); };
    std::uint64_t freeze = 0;
    for (const auto &[from, report] : reports) {
        if (answered(report)) freeze = std::max(freeze, report.frozen.front().freeze);
    }
    if (freeze == 0) return;
    group.freeze = FreezeState{freeze, now_, {}, {}, "a member was lost before the master ended", {}, {}, false, {}, 0};
    for (const PeerId m : members_of(id))
        group.freeze->awaiting.insert(m);
    for (const auto &[from, report] : reports) {
        Peer *peer = member(from);
        if (!peer) continue;  // removed for its answer, or with a peer of its island
        if (answered(report) && report.frozen.front().freeze == freeze)
            on(*peer, report.frozen.front());
        else
            send(*peer, wire::Freeze{freeze, group.freeze->why});
    }
}

void Master::catch_up(const Peer &peer, const RecoveryReport &report, const GroupKnowledge &known) {
    const Group &group = groups_.at(peer.group);
    for (const auto &link : report.links) {
        const Peer *other = member(link.other);
        if (!other || other->group != peer.group) send(peer, wire::CloseLink{link.other});
    }
    for (auto &message : missed_decisions(report, group.epoch, known))
        send(peer, std::move(message));
    if (report.view < view_) {
        wire::View view = view_of(group);
        if (report.epoch == group.epoch) {
            view.begun.clear();
            view.repaired.clear();
        }
        send(peer, std::move(view));
    }
    if (auto outcome = missed_outcome(report, generation_, run_outcome_, group.outcome)) send(peer, std::move(*outcome));
}

/// Keeps the links that both ends report as up and opens the others again. If an operation may have used one of those, its epoch
/// ends.
void Master::resume_links(GroupId id, const RecoveryReports &reports) {
    const Group &group = groups_.at(id);
    std::set<LinkBook::Pair> neighbours;
    for (std::size_t i = 0; i < group.ring.size(); ++i)
        neighbours.insert(std::minmax(group.ring[i], group.ring[(i + 1) % group.ring.size()]));
    std::vector<PeerId> present;
    std::map<std::pair<PeerId, PeerId>, wire::KnownLink> links;  // as the first of the two reports it
    for (const auto &[from, report] : reports) {
        present.push_back(from);
        for (const auto &link : report.links)
            links.try_emplace({from, link.other}, link);
    }
    const auto link_of = [&](PeerId from, PeerId to) {
        const auto found = links.find({from, to});
        return found == links.end() ? wire::KnownLink{} : found->second;
    };
    std::string broken;
    for (std::size_t i = 0; i < present.size(); ++i) {
        for (std::size_t j = i + 1; j < present.size(); ++j) {
            const PeerId a = present[i], b = present[j];
            const wire::KnownLink forth = link_of(a, b), back = link_of(b, a);
            links_.restore(a, b, forth, back);
            const bool up = links_.is_up(a, b);
            if (!up) open_link(links_.open(a, b, a));
            // A link that is up in an attempt of this epoch can have broken in this epoch before, and frames were lost then.
            const bool whole = up && forth.epoch != group.epoch && back.epoch != group.epoch;
            const bool used = group.full_mesh || neighbours.contains({a, b});
            if (!whole && used)
                broken = "the link between " + to_string(a) + " and " + to_string(b) + " broke while the master was away";
        }
    }
    if (!broken.empty()) begin_freeze(id, broken);
}

}  // namespace pccl::protocol
