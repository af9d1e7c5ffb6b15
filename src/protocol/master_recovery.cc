// Taking the place of a master that died: its members come back, say what they know, and are made to agree again.
//
// The record says who the members are and which view they have; everything since then the members know together. Whatever the last
// process told anybody, it told to all of them in one order, so among those who came back the one that heard most has heard all that
// any of them did. The others are told the rest. What nobody heard was not decided, or might as well not have been:
//   - an operation is committed if a member heard its commit, or if all who came back hold its result (had it been committed at one
//     that did not come back, all would hold it);
//   - a call of all members ended if a member heard its end; else it is decided anew, once all have said again that they wait in it;
//   - who does not come back within the window is lost: that is a new view, as always.
// Nothing else is decided before all are back or the window is over, so the rest of the machine never sees a run half known.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Account;
using wire::Call;

// ------------------------------------------------------------------------------------------------------------------ the record --

GraphRecord Master::graph_record(const Group &group) {
    GraphRecord record{group.graph.spec(), group.graph_epoch, group.graph.changes(), group.graph.members(), {}};
    for (const auto &[a, b] : group.graph.edges()) record.edges.push_back({a, b});
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
    record.answer = answer_;
    for (const auto &[id, peer] : peers_) {
        if (peer.member) record.members.push_back({id, peer.group, peer.secret, peer.address, peer.lanes, peer.island, peer.island_peers});
    }
    for (const auto &[id, group] : groups_) {
        const SyncState &sync = group.sync;
        wire::View view = view_of(group);
        view.number = {};  // so that it changes with its group alone
        view.groups.clear();
        view.generation = 0;
        record.groups.push_back({id, std::move(view), group.answer, sync.history.synced, sync.history.revision,
                                 {sync.last_members.begin(), sync.last_members.end()}, sync.history.schema,
                                 graph_record(group)});
    }
    for (const auto &[ids, pair] : pairs_) {
        const bool measured = pair.mbit_forth > 0 || pair.mbit_back > 0;
        if (measured && peers_.at(ids.first).member && peers_.at(ids.second).member)
            record.paths.push_back({ids.first, ids.second, pair.mbit_forth, pair.mbit_back});
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
    answer_ = record.answer;
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
        peer.call = Call::none;
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
        group.answer = known.answer;
        group.sync.revision = known.revision;
        group.sync.history = {known.synced, known.revision, known.schema};
        group.sync.last_members = {known.last_members.begin(), known.last_members.end()};
        std::vector<topology::Graph::Edge> edges;
        for (const auto &edge : known.graph.edges) edges.emplace_back(edge.first, edge.second);
        group.graph = topology::Graph(known.graph.spec, known.graph.changes, known.graph.members, edges);
        group.graph_epoch = known.graph.epoch;
    }
    for (const PathRecord &path : record.paths) {
        if (path.first >= path.second || !member(path.first) || !member(path.second)) continue;
        Pair &known = pairs_[{path.first, path.second}];
        known.mbit_forth = path.mbit_forth;
        known.mbit_back = path.mbit_back;
    }
    if (!peers_.empty()) recovery_.emplace();
}

// -------------------------------------------------------------------------------------------------------------------- coming back --

void Master::on_resume(ConnId conn, const wire::Resume &resume) {
    if (!compatible(conn, resume.hello)) return;
    const auto again = "; call pcclConnect to join again";
    const auto found = peers_.find(resume.peer);
    const bool known = resume.run == run_ && found != peers_.end() && found->second.secret == resume.secret;
    if (!known && !resume.member) return on_hello(conn, resume.hello);
    if (resume.run != run_) {
        return refuse(conn, pcclMasterConnectionFailed,
                      to_string(resume.peer) + " comes from another run: the master that it knew has gone, and another serves here" + again);
    }
    if (!known || !recovery_) {
        return refuse(conn, pcclMasterConnectionFailed,
                      to_string(resume.peer) + " is no member of this run any more: it was away for too long, or was removed" + again);
    }
    if (resume.view > view_) {
        return refuse(conn, pcclMasterConnectionFailed,
                      to_string(resume.peer) + " has seen view " + std::to_string(resume.view.value) + ", and the journal ends at view " +
                          std::to_string(view_.value) + ": it is older than the run" + again);
    }
    Peer &peer = found->second;
    if (peer.conn != ConnId{}) {  // its last connection ended without our having noticed yet
        effects_->push_back(Close{peer.conn, to_string(peer.id) + " came back on another connection"});
        by_conn_.erase(peer.conn);
        lost_again(peer);
    }
    peer.conn = conn;
    peer.last_heard = now_;
    peer.address = reachable_at(conn, resume.hello);
    strangers_.erase(conn);
    by_conn_[conn] = peer.id;
    welcome(peer);
}

void Master::during_recovery(Peer &peer, const wire::ToMaster &message) {
    if (std::holds_alternative<wire::Heartbeat>(message)) return;
    if (std::holds_alternative<wire::Leave>(message)) {
        recovery_->left.insert(peer.id);
        return;
    }
    const auto *account = std::get_if<Account>(&message);
    const Group &group = groups_.at(peer.group);
    if (account && account->view <= view_ && account->epoch <= group.epoch && account->recent.size() <= account->commits &&
        std::ranges::all_of(account->frozen, [](const auto &frozen) { return well_formed(frozen.carried); })) {
        recovery_->accounts[peer.id] = *account;
        return;
    }
    const std::string why = to_string(peer.id) + " broke the protocol (" + name_of(message) + " to a master that has restarted)";
    note(LogLevel::warn, why);
    send(peer, wire::Removed{pcclInvalidUsage, why});
    effects_->push_back(Close{peer.conn, why});
    by_conn_.erase(peer.conn);
    lost_again(peer);
    recovery_->left.insert(peer.id);
}

/// It may come again while the window is open.
void Master::lost_again(Peer &peer) {
    peer.conn = {};
    recovery_->accounts.erase(peer.id);
}

bool Master::recovered() const {
    if (now_ >= recovery_->deadline) return true;
    return std::ranges::all_of(peers_, [&](const auto &entry) {
        return recovery_->accounts.contains(entry.first) || recovery_->left.contains(entry.first);
    });
}

void Master::finish_recovery() {
    const Recovery recovery = std::move(*recovery_);
    recovery_.reset();
    Accounts accounts = recovery.accounts;
    for (const PeerId id : recovery.left)
        accounts.erase(id);
    note(LogLevel::warn, "this master takes the place of one that ended: " + std::to_string(accounts.size()) + " of " +
                             std::to_string(peers_.size()) + " members came back to view " + std::to_string(view_.value));
    misuse_stale_ = true;
    next_silence_ = now_;
    merge_run(accounts);
    std::map<GroupId, Agreed> agreed;
    for (auto &[id, group] : groups_)
        agreed[id] = merge_group(id, group, accounts);
    for (const auto &[id, account] : accounts)
        catch_up(peers_.at(id), account, agreed.at(peers_.at(id).group));
    for (const auto &[id, known] : agreed) {
        if (!groups_.contains(id)) continue;  // with a member of another, whose island it was
        merge_freeze(id, groups_.at(id), accounts);
        // Whose answer to the freeze cannot be was removed.
        std::erase_if(accounts, [&](const auto &entry) { return !member(entry.first); });
        const auto group = groups_.find(id);
        if (group == groups_.end()) continue;
        commit_what_all_hold(id, group->second, accounts);
        merge_links(id, accounts);
    }

    for (auto &[id, peer] : peers_)
        peer.call_since = now_;
    lose_missing(recovery, accounts);
    for (const auto &[id, account] : accounts) {
        Peer *peer = member(id);
        if (!peer) continue;
        const Group &group = groups_.at(peer->group);
        if (account.aborted && account.epoch == group.epoch) end_for_abort(peer->group, to_string(id) + " aborted its calls");
        send(*peer, wire::Resumed{generation_, answer_.decision});
        if (group.graph_epoch > 0) send(*peer, neighbours_of(*peer, 0));  // it may not have heard of the last change
    }
    for (const auto &[conn, hello] : recovery.newcomers) {
        if (strangers_.contains(conn)) on_hello(conn, hello);
    }
    refresh_ready();
}

/// Before anything ends the epoch: an operation that all who are here hold may have been committed at one who is not.
void Master::commit_what_all_hold(GroupId id, Group &group, const Accounts &accounts) {
    auto present = members_of(id);
    std::erase_if(present, [&](PeerId m) { return !accounts.contains(m); });
    if (!group.freeze && !present.empty()) commit_complete(group, present);
}

void Master::lose_missing(const Recovery &recovery, const Accounts &accounts) {
    std::set<PeerId> missing;
    for (const auto &[id, peer] : peers_) {
        if (!accounts.contains(id)) missing.insert(id);
    }
    for (const auto &[id, account] : accounts) {
        for (const auto &link : account.links) {
            if (missing.contains(link.other)) pair(id, link.other);  // so that it is told to let go
        }
    }
    for (const PeerId id : missing) {
        const bool left = recovery.left.contains(id);
        remove(id, left ? pcclSuccess : pcclMasterConnectionFailed,
               to_string(id) + (left ? " left" : " was lost: it did not come back to the restarted master within " +
                                                     pccl::to_string(options_.recovery_window)));
    }
    for (auto &[id, group] : groups_) {
        const auto members = members_of(id);
        const std::set<PeerId> ring(group.ring.begin(), group.ring.end());
        if (ring != std::set<PeerId>(members.begin(), members.end())) begin_freeze(id, "a member was lost before the master ended");
    }
}

// ------------------------------------------------------------------------------------------------------------ what they know together --

void Master::merge_run(const Accounts &accounts) {
    for (const auto &[id, account] : accounts) {
        generation_ = std::max(generation_, account.generation);
        if (account.run_answer.decision > answer_.decision) answer_ = account.run_answer;
    }
    answers_ = {};
    for (const auto &[id, account] : accounts) {
        if (account.generation != generation_) continue;
        Answers &group = groups_.at(peers_.at(id).group).answers;
        for (Answers *answers : {&answers_, &group}) {
            answers->asked = std::max(answers->asked, account.answered);
            if (account.yes_from != Account::kNever)
                answers->yes_from = std::min(answers->yes_from.value_or(account.yes_from), account.yes_from);
        }
        told_yes_ = told_yes_ || account.yes_from != Account::kNever;
    }
}

Master::Agreed Master::merge_group(GroupId id, Group &group, const Accounts &accounts) {
    Agreed agreed;
    std::set<OpId> committed;
    for (const auto &[from, account] : accounts) {
        const Peer &peer = peers_.at(from);
        if (peer.group != id) continue;
        if (account.group_answer.decision > group.answer.decision) group.answer = account.group_answer;
        if (account.epoch != group.epoch) continue;
        group.commits = std::max(group.commits, account.commits);
        std::uint64_t number = account.commits - account.recent.size();
        for (const auto &commit : account.recent) {
            committed.insert(commit.ops.begin(), commit.ops.end());
            agreed.commits.try_emplace(number++, commit);
        }
        for (const auto &forgotten : account.forgotten) {
            if (!agreed.forgotten || agreed.forgotten->round < forgotten.round) agreed.forgotten = forgotten;
        }
        for (const auto &failed : account.failures) {
            if (failed.op.epoch == group.epoch) agreed.failures.try_emplace(failed.op, failed);
        }
    }
    merge_tags(group, agreed.forgotten);
    for (const auto &[op, failed] : agreed.failures)
        group.failed.insert(op);
    for (const auto &[from, account] : accounts) {
        Peer &peer = peers_.at(from);
        if (peer.group != id || account.epoch != group.epoch) continue;
        peer.commits_heard = group.commits;  // once it has caught up
        for (const OpId &op : account.done) {
            if (op.epoch != group.epoch || committed.contains(op) || group.failed.contains(op)) continue;
            if (group.done[op].insert(from).second) ++peer.open_done;
        }
    }
    return agreed;
}

/// A freeze that one member heard of goes on with all.
void Master::merge_freeze(GroupId id, Group &group, const Accounts &accounts) {
    std::uint64_t freeze = 0;
    const auto here = [&](PeerId from) {
        const Peer *peer = member(from);
        return peer && peer->group == id;
    };
    for (const auto &[from, account] : accounts) {
        if (here(from) && account.epoch == group.epoch && !account.frozen.empty())
            freeze = std::max(freeze, account.frozen.front().freeze);
    }
    if (freeze == 0) return;
    group.freeze = FreezeState{freeze, now_, {}, {}, "a member was lost before the master ended", {}, {}, false, {}, 0};
    for (const PeerId m : members_of(id))
        group.freeze->awaiting.insert(m);
    for (const auto &[from, account] : accounts) {
        if (!here(from)) continue;  // also who was removed for what it said
        Peer &peer = peers_.at(from);
        if (account.epoch == group.epoch && !account.frozen.empty() && account.frozen.front().freeze == freeze)
            on_frozen(peer, account.frozen.front());
        else
            send(peer, wire::Freeze{freeze, group.freeze->why});
    }
}

void Master::catch_up(const Peer &peer, const Account &account, const Agreed &agreed) {
    const Group &group = groups_.at(peer.group);
    for (const auto &link : account.links) {
        const Peer *other = member(link.other);
        if (!other || other->group != peer.group) send(peer, wire::CloseLink{link.other});
    }
    if (account.epoch == group.epoch) {
        const std::uint64_t heard_round = account.forgotten.empty() ? 0 : account.forgotten.front().round;
        if (agreed.forgotten && heard_round < agreed.forgotten->round) send(peer, *agreed.forgotten);
        for (auto it = agreed.commits.lower_bound(account.commits); it != agreed.commits.end(); ++it)
            send(peer, it->second);
        std::set<OpId> heard;
        for (const auto &failed : account.failures)
            heard.insert(failed.op);
        for (const auto &[op, failed] : agreed.failures) {
            if (!heard.contains(op)) send(peer, failed);
        }
    }
    if (account.view < view_) {
        wire::View view = view_of(group);
        if (account.epoch == group.epoch) {
            view.begun.clear();
            view.repaired.clear();
        }
        send(peer, std::move(view));
    }
    answer_again(peer, account);
}

/// The end of a call that others have heard of.
void Master::answer_again(const Peer &peer, const Account &account) {
    if (account.open == Call::connect)
        return send(peer, wire::CallDone{Call::connect, 0, pcclSuccess, generation_, "", answer_.decision});
    if (account.aborted) return;  // the call that they ended is not the one it is in
    if (account.open == answer_.kind && account.run_answer.decision < answer_.decision) {
        return send(peer, wire::CallDone{answer_.kind, account.open_number, answer_.code, generation_, answer_.why, answer_.decision});
    }
    const wire::Answer &answer = groups_.at(peer.group).answer;
    const bool missed = account.group_answer.decision < answer.decision && account.epoch <= answer.epoch;
    if (account.open != Call::sync_shared_state || !missed) return;
    if (answer.code == pcclSuccess)
        send(peer, wire::SyncCommit{account.open_number, answer.sync, answer.revision, answer.decision});
    else
        send(peer, wire::CallDone{answer.kind, account.open_number, answer.code, generation_, answer.why, answer.decision});
}

/// Links that both ends say are up stand. The others are made again; and if an operation may have used one, its epoch ends.
void Master::merge_links(GroupId id, const Accounts &accounts) {
    const Group &group = groups_.at(id);
    std::set<std::pair<PeerId, PeerId>> neighbours;
    for (std::size_t i = 0; i < group.ring.size(); ++i)
        neighbours.insert(std::minmax(group.ring[i], group.ring[(i + 1) % group.ring.size()]));
    std::vector<PeerId> present;
    std::map<std::pair<PeerId, PeerId>, wire::KnownLink> links;  ///< as the first of the two says
    for (const auto &[from, account] : accounts) {
        if (peers_.at(from).group != id) continue;
        present.push_back(from);
        for (const auto &link : account.links)
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
            Pair &link = pair(a, b);
            link.attempt = std::max(forth.attempt, back.attempt);
            link.dialler = a;
            const bool up = forth.up && back.up && forth.attempt == back.attempt;
            if (up) {
                link.state = Pair::State::up;
                link.first_up = link.second_up = true;
                link.round_trip_us = std::max(forth.round_trip_us, back.round_trip_us);
            } else {
                open_pair(a, b, a);
            }
            // One that stands again may have broken in this epoch, before the master ended.
            const bool whole = up && forth.epoch != group.epoch && back.epoch != group.epoch;
            const bool used = group.full_mesh || neighbours.contains({a, b});
            if (!whole && used) broken = "the link between " + to_string(a) + " and " + to_string(b) + " broke while the master was away";
        }
    }
    if (!broken.empty()) begin_freeze(id, broken);
}

}  // namespace pccl::protocol
