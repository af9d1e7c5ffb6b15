// Calls of all members of the run or of a group: votes, questions, and conflicts between calls (call_board.h).
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;

void Master::on_vote(Peer &peer, Call call, std::uint32_t number) {
    if (!calls_.vote(now_, peer.id, call, number)) break_protocol(peer.id, "a vote during another");
}

void Master::on(Peer &peer, const wire::OfferState &offer) {
    peer.offer = offer;
    auto &tainted = groups_.at(peer.group).sync.tainted;
    if (offer.tainted)
        tainted.insert(peer.id);
    else
        tainted.erase(peer.id);
    on_vote(peer, Call::sync_shared_state, offer.call);
}

bool Master::all_members_in(Call call) const {
    return std::ranges::all_of(peers_,
                               [&](const auto &entry) { return !entry.second.member || calls_.of(entry.first).call == call; });
}

void Master::new_generation() {
    ++generation_;
    questions_.clear();
}

void Master::on(Peer &peer, const wire::AskPending &ask) {
    bool pending = false;
    if (ask.generation == generation_) {
        const bool newcomer_ready = std::ranges::any_of(peers_, [](const auto &entry) { return entry.second.ready; });
        pending = questions_.ask(peer.group, ask.k, newcomer_ready);
    }
    send(peer, wire::PendingAnswer{ask.generation, ask.k, pending});
}

void Master::decide_run(Call call, pcclResult_t code, const std::string &why) {
    run_outcome_ = {run_outcome_.decision + 1, {}, call, code, 0, 0, why};
}

void Master::call_done(Peer &peer, pcclResult_t code, const std::string &why, std::uint64_t decision) {
    const CallBoard::Calls &calls = calls_.of(peer.id);
    send(peer, wire::CallDone{calls.call, calls.number, code, generation_, why, decision});
    calls_.end_call(peer.id);
    peer.offer = {};
}

bool Master::try_update() {
    if (member_count() == 0 || any_frozen() || !all_members_in(Call::update_topology)) return false;
    std::set<GroupId> grown;
    std::string names;
    for (auto &[id, peer] : peers_) {
        if (peer.member || !peer.ready) continue;
        admit(peer);
        grown.insert(peer.group);
        names += (names.empty() ? "" : ", ") + to_string(id);
    }
    new_generation();
    decide_run(Call::update_topology, pcclSuccess, "");
    for (const GroupId id : grown) {
        Group &group = groups_[id];
        const auto ids = members_of(id);
        set_ring(group, links_.best_ring(ids, now_).value_or(ids));  // refresh_ready() made sure that a ring exists
    }
    if (!grown.empty()) publish_view(grown, {}, names + " joined");
    for (auto &[id, peer] : peers_) {
        if (peer.member) call_done(peer, pcclSuccess, "", run_outcome_.decision);
    }
    refresh_ready();
    return true;
}

void Master::on(Peer &peer, const wire::Abort &) {
    const std::string why = to_string(peer.id) + " aborted its calls";
    if (!peer.member) return remove(peer.id, pcclRankConnectionLost, why);
    log(LogLevel::info, why);
    // The calls of the other members continue to wait until this member calls again or leaves. If they failed here, members that
    // have not made the call yet would be in it alone.
    if (calls_.of(peer.id).call == Call::optimize_topology) probing_.stop();
    calls_.abort(peer.id);
    freeze_for_abort(peer.group, why);
}

/// Ends the calls of members that wait for each other, once their grace period is over.
void Master::check_conflicts() {
    if (!calls_.check_due(now_)) return;
    std::vector<CallBoard::GroupState> states;
    for (const auto &[id, group] : groups_)
        states.push_back({members_of(id), group.freeze.has_value(), &group.done});
    const auto conflict = calls_.check(now_, states, options_.misuse_grace);
    if (!conflict) return;

    const std::set<GroupId> groups{peers_.at(conflict->first).group, peers_.at(conflict->second).group};
    std::string why = "calls that can never meet: ";
    bool first = true;
    for (const auto &[id, peer] : peers_) {
        if (!peer.member || !groups.contains(peer.group)) continue;
        why += (first ? "" : ", ") + calls_.describe(id);
        first = false;
    }
    if (why.size() > wire::kMaxText) why.resize(wire::kMaxText);
    log(LogLevel::error, why);
    for (auto &[id, peer] : peers_) {
        if (!peer.member) continue;
        const Call call = calls_.of(id).call;
        const bool concerned =
            CallBoard::needs_whole_run(call) || (call == Call::sync_shared_state && groups.contains(peer.group));
        if (concerned) call_done(peer, pcclInvalidUsage, why, 0);
    }
    for (const GroupId id : groups) {
        Group &group = groups_.at(id);
        std::set<OpId> stuck;
        for (const PeerId m : members_of(id)) {
            const auto &waiting = calls_.of(m).waiting;
            stuck.insert(waiting.begin(), waiting.end());
        }
        for (const OpId &op : stuck) {
            if (op.epoch == group.epoch && !group.failed.contains(op)) fail_op(id, group, {op, pcclInvalidUsage, true, why, {}});
        }
        for (const PeerId m : members_of(id))
            calls_.clear_waiting(m);
    }
}

}  // namespace pccl::protocol
