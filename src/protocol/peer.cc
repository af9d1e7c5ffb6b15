// See peer.h. peer_resume.cc: a master that comes back; peer_tags.cc: tag rounds.
#include "protocol/peer.h"

#include <algorithm>

#include "base/assert.h"

namespace pccl::protocol {

using wire::Call;

Duration heartbeat_timeout(const wire::Welcome &welcome) {
    return std::chrono::milliseconds(std::clamp<std::uint32_t>(welcome.heartbeat_timeout_ms, 100, 3'600'000));
}

void Peer::step(Time now, const PeerInput &input, PeerEffects &effects) {
    effects_ = &effects;
    // If this process was stopped, it could not receive: the master was not silent.
    if (now_ != Time{} && now - now_ > master_timeout_ / 2) master_heard_ = master_heard_ + (now - now_);
    now_ = now;
    try {
        std::visit([&](const auto &in) { on(in); }, input);
        if (!away() && std::exchange(waiting_stale_, false) && state_ == State::member) send(waiting());
    } catch (const BrokenInvariant &broken) {
        fail(broken.what());
    }
    effects_ = nullptr;
    if (aborts_on_broken_invariants()) check_invariants();
}

std::optional<Time> Peer::next_timeout() const {
    if (state_ == State::greeting) return master_heard_ + wire::kHelloTimeout;
    if (state_ != State::newcomer && state_ != State::member) return std::nullopt;
    Time next = next_heartbeat_;
    if (away()) next = std::min(next, down_since_ + options_.master_limit);
    if (master_link_ == MasterLink::down) next = std::min(next, redial_at_);
    for (const auto &[id, op] : ops_) {
        if (op.finished) continue;
        if (!op.reported) next = std::min(next, op.since + options_.report_after);
        next = std::min(next, std::max(op.since + options_.progress_after, next_progress_));
    }
    return next;
}

World Peer::world() const {
    World world;
    for (const auto &[group, size] : view_.groups) {
        if (group == options_.group) world.group = size;
        world.global += size;
        world.largest_group = std::max(world.largest_group, size);
        world.groups += size > 0;
    }
    return world;
}

// ------------------------------------------------------------------------------------------------------------------ callers --

void Peer::on(const Connect &in) {
    if (state_ != State::idle) return complete(in.call, pcclInvalidUsage, "already connected");
    state_ = State::dialing;
    ended_.reset();
    exclusive_ = Exclusive{Call::connect, in.call, 0, {}};
    effects_->push_back(DialMaster{});
}

bool Peer::start_exclusive(Call kind, CallId call) {
    if (state_ != State::member) {
        refuse_unconnected(call);
    } else if (exclusive_) {
        complete(call, pcclInvalidUsage, std::string(name_of(exclusive_->kind)) + " is in progress on another thread");
    } else if (!ops_.empty() || !held_.empty() || !lost_.empty() || !carried_.empty()) {
        complete(call, pcclPendingAsyncOps, "all-reduces are in flight: await them first");
    } else {
        exclusive_ = Exclusive{kind, call, next_call_number_++, {}};
        return true;
    }
    return false;
}

void Peer::on(const UpdateTopology &in) {
    if (start_exclusive(Call::update_topology, in.call)) send(wire::VoteUpdate{exclusive_->number});
}

void Peer::on(const OptimizeTopology &in) {
    if (start_exclusive(Call::optimize_topology, in.call)) send(wire::VoteOptimize{exclusive_->number});
}

void Peer::on(const Synchronize &in) {
    if (!start_exclusive(Call::sync_shared_state, in.call)) return;
    exclusive_->offer = in.offer;
    exclusive_->offer.call = exclusive_->number;
    send(exclusive_->offer);
}

void Peer::on(const ArePending &in) {
    if (state_ != State::member) return refuse_unconnected(in.call);
    questions_.push_back({in.call, generation_, asked_});
    send(wire::AskPending{generation_, asked_++});
}

void Peer::on(const SetGraph &in) {
    if (state_ != State::member) return refuse_unconnected(in.call);
    graph_calls_.push_back({in.call, {next_graph_call_++, in.graph}});
    send(graph_calls_.back().message);
}

bool Peer::in_flight(Tag tag) const {
    const auto same = [&](const auto &entry) { return entry.first.tag == tag; };
    return std::ranges::any_of(ops_, same) || carried_.contains(tag) ||
           std::ranges::any_of(held_, [&](const auto &h) { return h.tag == tag; });
}

void Peer::on(const PostReduce &in) {
    if (state_ != State::member) return refuse_unconnected(in.call);
    if (exclusive_) {
        return complete(in.call, pcclInvalidUsage,
                        std::string(name_of(exclusive_->kind)) +
                            " is in progress on another thread: no all-reduce can run at the same time");
    }
    if (in_flight(in.tag)) {
        return complete(in.call, pcclInvalidUsage,
                        "tag " + std::to_string(in.tag.value) + " names an operation that is in flight");
    }
    const HeldCall call{in.call, in.tag, in.fault};
    if (freeze_ || tag_round_)
        held_.push_back(call);
    else
        open_op(call);
}

void Peer::open_op(const HeldCall &held) {
    const auto &[call, tag, fault] = held;
    if (const auto found = tags_.find(tag); found != tags_.end() && !found->second.pending_failures.empty()) {
        auto &pending = found->second.pending_failures;
        const Failure failure = pending.front().second;
        if (--pending.front().first == 0) pending.erase(pending.begin());
        return complete(call, failure.code, failure.why);
    }
    if (view_.ring.size() < 2) return complete(call, pcclTooFewPeers, "alone in the peer group: wait for others to join");
    TagState &state = tag_state(tag);
    if (const auto failed = state.failed_seqs.extract(state.next_seq); !failed.empty()) {
        ++state.next_seq;
        state.committed = false;
        state.over = true;
        return complete(call, failed.mapped().code, failed.mapped().why);
    }
    start_op({view_.epoch, tag, state.next_seq}, call, fault);
}

void Peer::start_op(const OpId &op, CallId call, op::LossPolicy fault) {
    PCCL_ASSERT(!freeze_ && !tag_round_ && op.epoch == view_.epoch && !ops_.contains(op));
    TagState &state = tag_state(op.tag);
    state.next_seq = op.seq + 1;
    state.committed = state.over = false;
    ops_[op] = {call, now_, false, false, {}, fault == op::LossPolicy::repair};
    effects_->push_back(StartOp{call, op});
}

void Peer::on(const AbortCalls &) {
    const std::string why = "pcclAbort was called";
    if (state_ == State::idle) return;
    if (state_ != State::member) {
        if (state_ != State::dialing) send(wire::Leave{});
        effects_->push_back(HangUp{});
        return end_everything(pcclRankConnectionLost, why);
    }
    aborted_ = true;
    for (const CallId call : take_calls())
        complete(call, pcclRankConnectionLost, why);
    send(wire::Abort{});
    if (freeze_ && (!frozen_ || frozen_->freeze != *freeze_)) answer_freeze();  // no OpsCarried will follow
}

void Peer::on(const LeaveRun &) {
    if (state_ == State::idle) return;
    if (state_ != State::dialing && connected()) send_now(wire::Leave{});
    effects_->push_back(HangUp{});
    end_everything(pcclRankConnectionLost, "this peer left the run");
}

// -------------------------------------------------------------------------------------------------------------------- shell --

void Peer::on(const MasterUp &) {
    if (master_link_ == MasterLink::dialing) return send_resume();
    if (state_ != State::dialing) return;
    state_ = State::greeting;
    master_heard_ = now_;
    send(hello());
}

void Peer::on(const MasterDown &in) {
    if (state_ == State::newcomer || state_ == State::member) return on_master_lost(in.why);
    if (state_ != State::idle) end_everything(pcclMasterConnectionFailed, in.why);
}

void Peer::on(const FromMaster &in) {
    master_heard_ = now_;
    const bool greeting = std::holds_alternative<wire::Welcome>(in.message) ||
                          std::holds_alternative<wire::Removed>(in.message) ||
                          std::holds_alternative<wire::Heartbeat>(in.message);
    if (state_ == State::idle || state_ == State::dialing || (state_ == State::greeting && !greeting)) return;
    if (master_link_ == MasterLink::down || master_link_ == MasterLink::dialing ||
        (master_link_ == MasterLink::resuming && !greeting))
        return;
    std::visit([&](const auto &m) { on(m); }, in.message);
}

void Peer::on(const LinkEvent &in) {
    if (state_ == State::newcomer || state_ == State::member) on_link_event(in);
}

void Peer::on(const OpFinished &in) {
    const auto found = ops_.find(in.op);
    if (found == ops_.end() || found->second.finished) return;
    found->second.finished = true;
    send(wire::Done{{in.op}});
}

void Peer::on(const OpBroken &in) {
    const auto found = ops_.find(in.op);
    if (found == ops_.end()) return;
    found->second.fault = wire::OpFault{in.op, in.code, in.why, in.own};
    send(*found->second.fault);
}

void Peer::on(const ProbeFinished &in) {
    if (state_ == State::member) send(wire::ProbeReport{in.round, in.to, in.mbit_per_s});
}

void Peer::on(const SyncPulled &in) {
    if (exclusive_ && exclusive_->kind == Call::sync_shared_state) send(wire::SyncDone{in.sync, in.ok, in.why});
}

void Peer::on(const OfferSpoiled &in) {
    if (exclusive_ && exclusive_->kind == Call::sync_shared_state) send(wire::StateFault{in.sync, in.why});
}

void Peer::on(const PeerTick &in) {
    if (state_ == State::greeting && now_ - master_heard_ >= wire::kHelloTimeout) {
        effects_->push_back(HangUp{});
        return end_everything(pcclMasterConnectionFailed, "no PCCL master answers at the master's address");
    }
    if (state_ != State::newcomer && state_ != State::member) return;
    if (connected() && now_ - master_heard_ > master_timeout_) {
        effects_->push_back(HangUp{});
        return on_master_lost("the master has been silent for " + to_string(now_ - master_heard_));
    }
    if (connected() && now_ >= next_heartbeat_) send_now(wire::Heartbeat{view_.epoch, commits_});
    if (now_ >= next_heartbeat_) next_heartbeat_ = now_ + heartbeat_interval_;
    if (away()) wait_for_master();
    if (std::exchange(blocked_, in.blocked) != in.blocked) {
        waiting_stale_ = std::ranges::any_of(ops_, [](const auto &entry) { return entry.second.reported; });
    }
    report_waiting();
    if (now_ >= next_progress_) request_progress();
}

/// Requests a progress report about operations that have been open for long. The master uses it to find the member that delays
/// others.
void Peer::request_progress() {
    ReportProgress look;
    for (const auto &[id, op] : ops_) {
        if (reports_progress(op) && look.ops.size() < wire::kMaxReported) look.ops.push_back(id);
    }
    if (look.ops.empty()) return;
    next_progress_ = now_ + options_.progress_after;
    effects_->push_back(std::move(look));
}

void Peer::on(const ProgressReported &in) {
    if (state_ != State::member) return;
    wire::ProgressReport progress = in.progress;
    std::erase_if(progress.ops, [&](const auto &op) { return !ops_.contains(op.op); });
    for (auto &op : progress.ops)
        op.open_ms =
            static_cast<std::uint32_t>(std::min<Duration::rep>((now_ - ops_.at(op.op).since).count() / 1000, UINT32_MAX));
    if (!progress.ops.empty()) send(std::move(progress));
}

void Peer::report_waiting() {
    for (auto &[id, op] : ops_) {
        if (op.reported || op.finished || now_ - op.since < options_.report_after) continue;
        op.reported = true;
        waiting_stale_ = true;
    }
}

wire::Waiting Peer::waiting() const {
    wire::Waiting report;
    report.blocked = blocked_;
    for (const auto &[id, op] : ops_) {
        if (op.reported && !op.finished && report.ops.size() < wire::kMaxOpsInMessage) report.ops.push_back(id);
    }
    return report;
}

/// The data plane ends the operation. If the master believes that this peer waits for it, the next Waiting corrects that.
void Peer::end_op(const OpId &op, const OpState &state, bool committed) {
    effects_->push_back(EndOp{op, state.call, committed});
    waiting_stale_ = waiting_stale_ || state.reported;
}

// ------------------------------------------------------------------------------------------------------------------- master --

void Peer::on(const wire::Welcome &m) {
    if (master_link_ == MasterLink::resuming) return on_welcome_back(m);
    if (state_ != State::greeting) return;
    state_ = State::newcomer;
    take_identity(m);
    heartbeat_interval_ = std::chrono::milliseconds(std::clamp<std::uint32_t>(m.heartbeat_interval_ms, 10, 60'000));
    master_timeout_ = 3 * heartbeat_timeout(m);
    next_heartbeat_ = now_ + heartbeat_interval_;
    effects_->push_back(Log{LogLevel::info, "welcomed as peer " + std::to_string(id_.value)});
}

void Peer::on(const wire::Removed &m) {
    effects_->push_back(HangUp{});
    if (m.code != pcclSuccess) effects_->push_back(Log{LogLevel::warn, "removed by the master: " + m.why});
    end_everything(m.code == pcclSuccess ? pcclMasterConnectionFailed : m.code, m.why + "; call pcclConnect to join again");
}

void Peer::on(const wire::OpenLink &m) {
    links_[m.other] = {m.other, m.attempt, view_.epoch, false, 0};
    effects_->push_back(MakeLink{m});
}

void Peer::on(const wire::CloseLink &m) {
    links_.erase(m.other);
    effects_->push_back(DropLink{m.other});
}

void Peer::on(const wire::Freeze &m) {
    if (state_ != State::member) return;
    freeze_ = m.freeze;
    CarryOps carry;
    for (const auto &[op, state] : ops_) {
        if (state.repairs && !state.fault) {  // a member that reported a fault must not continue it
            carried_[op.tag] = {state.call, op.seq};
            carry.ops.push_back(op);
            waiting_stale_ = waiting_stale_ || state.reported;
        } else {
            end_op(op, state, false);
            lost_.push_back({state.call, m.why});
        }
    }
    ops_.clear();
    if (!carry.ops.empty()) effects_->push_back(std::move(carry));
    answer_freeze();
}

void Peer::on(const OpsCarried &in) {
    bool news = false;
    for (const auto &op : in.ops) {
        const auto call = carried_.find(op.tag);
        if (call == carried_.end() || call->second.seq != op.seq || call->second.final) continue;  // aborted meanwhile
        call->second.final = op.final;
        news = true;
    }
    if (freeze_ && news) answer_freeze();
}

/// Answers once the data plane has reported which elements are final. Calls whose ranges do not fit into the message are not
/// carried: they fail as others do.
void Peer::answer_freeze() {
    if (std::ranges::any_of(carried_, [](const auto &entry) { return !entry.second.final; })) return;
    wire::Frozen frozen{*freeze_, {}, {}};
    std::set<Tag> continued;
    std::size_t ranges = 0;
    for (const auto &[tag, call] : carried_) {
        if (ranges + call.final->size() > wire::kMaxFinalRanges || frozen.carried.size() >= wire::kMaxOpsInMessage) continue;
        ranges += call.final->size();
        continued.insert(tag);
        frozen.carried.push_back({tag, call.seq, *call.final});
    }
    for (const auto &[tag, state] : tags_) {
        if (state.committed || continued.contains(tag)) continue;
        if (frozen.opened.size() < wire::kMaxOpsInMessage) frozen.opened.push_back({tag, state.next_seq});
    }
    frozen_ = frozen;
    send(std::move(frozen));
}

void Peer::on(const wire::View &m) {
    if (m.number <= view_.number) return;
    if (std::ranges::find(m.ring, id_) == m.ring.end()) return;
    const bool new_epoch = m.epoch != view_.epoch;
    effects_->push_back(Log{LogLevel::debug, "view " + std::to_string(m.number.value) + ": " + m.why});
    if (new_epoch)
        start_epoch(m);
    else
        view_ = m;
}

/// The calls below number `next_seq` that were not made here will fail when they are made, each with its failure at the other
/// members.
void Peer::add_pending_failures(TagState &state, std::uint32_t next_seq, const std::string &why) {
    for (auto seq = state.next_seq; seq < next_seq;) {
        const auto failed = state.failed_seqs.lower_bound(seq);
        const auto end = failed == state.failed_seqs.end() ? next_seq : std::min(failed->first, next_seq);
        if (seq < end) state.pending_failures.push_back({end - seq, Failure{pcclRankConnectionLost, why}});
        if (end < next_seq) state.pending_failures.push_back({1, failed->second});
        seq = end < next_seq ? end + 1 : next_seq;
    }
}

/// Ends the old epoch and starts the new one. Members can be in different calls when the old epoch ends: one has made call n with
/// a tag and failed, another will make it only in the new epoch. Every member must give its n-th call the same outcome, so this
/// function computes how many calls with each tag are over, from what all members have received in the same order, and leaves a
/// pending failure for each of them that this member has not made.
void Peer::start_epoch(const wire::View &view) {
    // 1. `reached`: the number of the first call with a tag that is not over. It is the same at every member, although members
    // made different numbers of calls: `begun` and `repaired` are maxima over all members, and all received each OpFailed.
    std::map<Tag, std::uint32_t> reached;
    for (const auto &begun : view.begun)
        reached[begun.tag] = begun.next_seq;
    std::map<Tag, std::uint32_t> continued;
    for (const auto &op : view.repaired) {
        // Call op.seq continues as the first of the new epoch. So only the calls before it are over, and a member that has not
        // made call op.seq yet gets no failure for it: it will join the repaired operation.
        continued[op.tag] = op.seq;
        reached[op.tag] = std::max(reached[op.tag], op.seq);
    }
    for (const auto &[tag, state] : tags_) {
        // The view does not name a call that failed by OpFailed before any survivor made it. Every member has it in failed_seqs.
        if (!state.failed_seqs.empty()) reached[tag] = std::max(reached[tag], state.failed_seqs.rbegin()->first + 1);
    }

    // 2. Calls from state.next_seq to reached - 1 failed at the members that made them. They become pending failures: the next
    // calls here fail at once, in whatever epoch they are made. Failures still pending from earlier epochs come first, because
    // those calls do.
    for (const auto &[tag, next_seq] : reached)
        add_pending_failures(tag_state(tag), next_seq, view.why);

    // 3. Numbers restart from 0 in the new epoch. A tag without pending failures needs no state: an unknown tag starts from 0 as
    // well.
    std::erase_if(tags_, [](const auto &entry) { return entry.second.pending_failures.empty(); });
    for (auto &[tag, state] : tags_)
        state = {0, true, {}, std::move(state.pending_failures)};

    // 4. A freeze has ended all operations before. A view without a freeze (newcomers joined, or a new ring order) has ended
    // none, but comes only while all members are in a call of all members, so this loop ends something only if the master is
    // faulty.
    for (const auto &[op, state] : ops_) {
        end_op(op, state, false);
        lost_.push_back({state.call, view.why});
    }
    ops_.clear();
    view_ = view;
    forget_epoch();
    const auto rank = static_cast<std::size_t>(std::ranges::find(view.ring, id_) - view.ring.begin());
    effects_->push_back(StartEpoch{view.epoch, view.ring, rank, view.full_mesh, view.path, view.repaired});

    // 5. Carried calls continue if the view names them with the same number. Otherwise a member aborted, or began a later call
    // with the tag. Step 6 completes those.
    for (const auto &[tag, carried] : std::exchange(carried_, {})) {
        const auto found = continued.find(tag);
        if (found != continued.end() && found->second == carried.seq)
            start_op({view.epoch, tag, 0}, carried.call, op::LossPolicy::repair);
        else
            lost_.push_back({carried.call, view.why});
    }

    // 6. Callers return only now, so that a caller that retries at once starts its operation in the new epoch. The calls that
    // were held during the freeze start last: they were made after all others, and they can hit the pending failures of step 2.
    // The view's reason names every loss since the freeze began, so it replaces the reason of the freeze.
    for (const auto &[call, why] : std::exchange(lost_, {}))
        complete(call, pcclRankConnectionLost, view.why.empty() ? why : view.why);
    for (const auto &held : std::exchange(held_, {}))
        open_op(held);
}

void Peer::on(const wire::PendingAnswer &m) {
    if (questions_.empty() || questions_.front().generation != m.generation || questions_.front().k != m.k) return;
    Complete done{questions_.front().call, pcclSuccess, "", world()};
    done.pending = m.pending;
    questions_.pop_front();
    if (m.generation == generation_) {
        answered_ = m.k + 1;
        if (m.pending) yes_from_ = std::min(yes_from_, m.k);
    }
    effects_->push_back(std::move(done));
}

void Peer::on(const wire::Commit &m) {
    keep_commit(m);
    for (const OpId &op : m.ops) {
        if (op.epoch != view_.epoch) continue;
        if (const auto state = tags_.find(op.tag); state != tags_.end() && state->second.next_seq == op.seq + 1) {
            state->second.committed = state->second.over = true;
        }
        const auto found = ops_.find(op);
        if (found == ops_.end()) continue;  // aborted here
        if (!found->second.finished) {
            effects_->push_back(HangUp{});
            return end_everything(pcclInternalError,
                                  "the master committed an operation whose result this peer does not hold: the master is faulty");
        }
        const CallId call = found->second.call;
        end_op(op, found->second, true);
        ops_.erase(found);
        complete(call, pcclSuccess, "");
    }
}

void Peer::on(const wire::OpFailed &m) {
    if (m.op.epoch != view_.epoch || freeze_) return;
    if (failures_.size() < wire::kMaxOpenOps) failures_.push_back(m);
    const bool other_culprit = m.culprit != PeerId{} && m.culprit != id_;
    const Failure failure{other_culprit ? pcclRankConnectionLost : m.code == pcclSuccess ? pcclInternalError : m.code, m.why};
    const auto known = tags_.find(m.op.tag);
    if (const auto found = ops_.find(m.op); found != ops_.end()) {
        const CallId call = found->second.call;
        if (known != tags_.end()) known->second.over = true;  // a faulty master can have dropped the tag of an open operation
        end_op(m.op, found->second, false);
        ops_.erase(found);
        return complete(call, failure.code, failure.why);
    }
    if (m.op.seq < (known == tags_.end() ? floor_ : known->second.next_seq)) return;
    TagState &state = tag_state(m.op.tag);
    if (m.skip) {
        state.next_seq = m.op.seq + 1;
        state.committed = false;
        state.over = true;
        std::erase_if(state.failed_seqs, [&](const auto &entry) { return entry.first < state.next_seq; });
    } else if (state.failed_seqs.size() < wire::kMaxOpenOps) {
        state.failed_seqs[m.op.seq] = failure;
    }
}

void Peer::on(const wire::Probe &m) {
    if (exclusive_ && exclusive_->kind == Call::optimize_topology)
        effects_->push_back(StartProbe{m});
    else
        send(wire::ProbeReport{m.round, m.to, 0});
}

void Peer::on(const wire::CallDone &m) {
    // Applies even if the call was aborted here meanwhile: the generation is the same at all members.
    if (m.kind == Call::connect || m.kind == Call::update_topology) new_generation(m.generation);
    if (m.kind == Call::sync_shared_state && m.decision > 0)
        group_outcome_ = {m.decision, view_.epoch, m.kind, m.code, 0, 0, m.why};
    else if (m.decision > 0)
        run_outcome_ = {m.decision, {}, m.kind, m.code, 0, 0, m.why};
    if (!exclusive_ || exclusive_->kind != m.kind || exclusive_->number != m.call) return;
    if (m.kind == Call::connect) state_ = State::member;
    if (m.kind == Call::update_topology && m.code == pcclSuccess) {
        // All members are in this call together, so all of them have made, or will never make, the calls that failed before it.
        for (auto &[tag, state] : tags_) {
            state.pending_failures.clear();
            if (!state.failed_seqs.empty()) state.next_seq = state.failed_seqs.rbegin()->first + 1;
            state.failed_seqs.clear();
        }
    }
    const CallId call = exclusive_->call;
    if (m.kind == Call::sync_shared_state) effects_->push_back(EndSync{false});
    exclusive_.reset();
    complete(call, m.code, m.why);
}

void Peer::on(const wire::SyncPlan &m) {
    if (!exclusive_ || exclusive_->kind != Call::sync_shared_state || exclusive_->number != m.call) return;
    if (m.in_place && !m.pull.empty()) exclusive_->offer.tainted = true;
    effects_->push_back(StartPull{m});
}

void Peer::on(const wire::SyncCommit &m) {
    if (m.decision > 0) group_outcome_ = {m.decision, view_.epoch, Call::sync_shared_state, pcclSuccess, m.sync, m.revision, ""};
    if (!exclusive_ || exclusive_->kind != Call::sync_shared_state || exclusive_->number != m.call) return;
    const CallId call = exclusive_->call;
    exclusive_.reset();
    effects_->push_back(EndSync{true, m.sync});
    Complete done{call, pcclSuccess, "", world()};
    done.revision = m.revision;
    effects_->push_back(std::move(done));
}

void Peer::on(const wire::Notice &m) { effects_->push_back(Log{LogLevel::debug, "notice of the master: " + m.why}); }

void Peer::on(const wire::Neighbours &m) {
    const auto found = std::ranges::find_if(graph_calls_, [&](const auto &made) { return made.message.call == m.call; });
    if (found == graph_calls_.end()) return;
    const CallId call = found->call;
    graph_calls_.erase(found);
    complete(call, m.code, m.why);
}

// ------------------------------------------------------------------------------------------------------------------ helpers --

void Peer::end_everything(pcclResult_t code, const std::string &why) {
    effects_->push_back(DropAllLinks{code, why});
    if (state_ == State::member) ended_ = Failure{code, why};
    const auto calls = take_calls();
    state_ = State::idle;
    master_link_ = MasterLink::up;
    tags_.clear();
    forget_epoch();
    view_ = {};
    new_generation(0);
    run_outcome_ = group_outcome_ = {};
    links_.clear();
    lost_links_.clear();
    for (const CallId call : calls)
        complete(call, code, why);
}

/// Removes all calls that wait. Returns them in the order in which they complete.
std::vector<CallId> Peer::take_calls() {
    std::vector<CallId> calls;
    for (const auto &[op, state] : ops_) {
        end_op(op, state, false);
        calls.push_back(state.call);
    }
    for (const auto &[tag, carried] : carried_)
        calls.push_back(carried.call);
    for (const auto &held : held_)
        calls.push_back(held.call);
    for (const auto &lost : lost_)
        calls.push_back(lost.call);
    for (const auto &question : questions_)
        calls.push_back(question.call);
    for (const auto &made : graph_calls_)
        calls.push_back(made.call);
    if (exclusive_) {
        calls.push_back(exclusive_->call);
        if (exclusive_->kind == Call::sync_shared_state) effects_->push_back(EndSync{false});
    }
    ops_.clear();
    carried_.clear();
    held_.clear();
    lost_.clear();
    questions_.clear();
    graph_calls_.clear();
    exclusive_.reset();
    return calls;
}

/// Resets the state that belongs to one epoch.
void Peer::forget_epoch() {
    freeze_.reset();
    frozen_.reset();
    recent_.clear();
    floor_ = 0;
    tag_round_.reset();
    forgotten_.reset();
    failures_ = std::vector<wire::OpFailed>();  // frees its memory: a master can have named thousands
    commits_ = recent_ops_ = 0;
    aborted_ = false;
}

void Peer::refuse_unconnected(CallId call) {
    if (ended_) return complete(call, ended_->code, ended_->why);
    complete(call, pcclInvalidUsage, "not connected: call pcclConnect first");
}

void Peer::complete(CallId call, pcclResult_t code, const std::string &why) {
    effects_->push_back(Complete{call, code, why, world()});
}

void Peer::send(wire::ToMaster message) {
    if (!away()) send_now(std::move(message));
}

void Peer::send_now(wire::ToMaster message) { effects_->push_back(SendToMaster{std::move(message)}); }

}  // namespace pccl::protocol
