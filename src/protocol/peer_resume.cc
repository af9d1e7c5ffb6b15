// A master that is lost and comes back.
//
// A peer waits for a master that keeps a journal. Nothing ends meanwhile: operations continue between the peers, and calls that
// need the master take longer by the time of its absence. Messages to the master are not queued. When it is back, the peer sends
// its current state instead: first who this peer is (Resume), then every decision that it has received (RecoveryReport). The
// master answers with the decisions that others have received and this peer has not, and with Resumed. Then the peer sends again
// whatever it still waits for.
#include "protocol/peer.h"

#include <algorithm>

#include "base/assert.h"

namespace pccl::protocol {

using wire::Call;

namespace {

constexpr Duration kFirstRedial = std::chrono::milliseconds(50);
constexpr Duration kLastRedial = std::chrono::milliseconds(250);

}  // namespace

void Peer::on_master_lost(const std::string &why) {
    if (!resumable_)
        return end_everything(pcclMasterConnectionFailed, why + "; it keeps no journal: call pcclConnect to join its next run");
    if (master_link_ == MasterLink::up) {
        down_since_ = now_;
        redial_after_ = kFirstRedial;
        effects_->push_back(Log{LogLevel::warn, why + "; waiting for it to come back, for " + to_string(options_.master_limit)});
    }
    master_link_ = MasterLink::down;
    redial_at_ = now_ + redial_after_;
    redial_after_ = std::min(2 * redial_after_, kLastRedial);
}

/// A tick while the master is away.
void Peer::wait_for_master() {
    if (now_ - down_since_ >= options_.master_limit) {
        effects_->push_back(HangUp{});
        return end_everything(pcclMasterConnectionFailed, "the master has been away for " + to_string(now_ - down_since_) +
                                                              ", the limit of this peer; call pcclConnect to join again");
    }
    if (master_link_ != MasterLink::down || now_ < redial_at_) return;
    master_link_ = MasterLink::dialing;
    effects_->push_back(DialMaster{});
}

void Peer::send_resume() {
    master_link_ = MasterLink::resuming;
    master_heard_ = now_;
    wire::Resume resume;
    resume.hello = hello();
    resume.run = run_;
    resume.peer = id_;
    resume.secret = secret_;
    resume.member = state_ == State::member;
    resume.view = view_.number;
    send_now(std::move(resume));
}

void Peer::on_welcome_back(const wire::Welcome &m) {
    if (m.you == id_ && m.run == run_) {
        master_link_ = MasterLink::recovering;
        lost_links_.clear();  // the report contains the current state of the links
        return send_now(recovery_report());
    }
    if (state_ == State::newcomer) return rejoin(m);
    effects_->push_back(HangUp{});
    end_everything(pcclMasterConnectionFailed,
                   "another master uses the address of this peer's master; call pcclConnect to join its run");
}

/// A newcomer that the last master had not admitted and the new one does not know.
void Peer::rejoin(const wire::Welcome &m) {
    for (const auto &[other, link] : std::exchange(links_, {}))
        effects_->push_back(DropLink{other});
    lost_links_.clear();
    take_identity(m);
}

wire::Hello Peer::hello() const {
    return {wire::kMagic,   wire::kVersion,  options_.group,       options_.advertised,
            options_.lanes, options_.island, options_.island_peers};
}

void Peer::take_identity(const wire::Welcome &m) {
    master_link_ = MasterLink::up;
    id_ = m.you;
    run_ = m.run;
    secret_ = m.secret;
    resumable_ = m.resumable;
}

wire::RecoveryReport Peer::recovery_report() const {
    wire::RecoveryReport report;
    report.view = view_.number;
    report.epoch = view_.epoch;
    report.generation = generation_;
    report.answered = answered_;
    report.yes_from = yes_from_;
    report.run_outcome = run_outcome_;
    report.group_outcome = group_outcome_;
    if (exclusive_) {
        report.open = exclusive_->kind;
        report.open_number = exclusive_->number;
    }
    report.aborted = aborted_;
    if (frozen_) report.frozen.push_back(*frozen_);
    for (const auto &[other, link] : links_)
        report.links.push_back(link);
    report.commits = commits_;
    report.recent.assign(recent_.begin(), recent_.end());
    report.failures = failures_;
    for (const auto &[op, state] : ops_) {
        if (state.finished && report.done.size() < wire::kMaxOpsInMessage) report.done.push_back(op);
    }
    if (forgotten_) report.forgotten.push_back(*forgotten_);
    return report;
}

void Peer::on(const wire::Resumed &m) {
    new_generation(m.generation);
    run_outcome_.decision = std::max(run_outcome_.decision, m.decision);
    if (master_link_ != MasterLink::recovering) return;
    master_link_ = MasterLink::up;
    effects_->push_back(Log{LogLevel::warn, "the master is back after " + to_string(now_ - down_since_)});
    end_tag_round();  // if any member received its ForgetTags, this one has it now; otherwise it had no outcome
    resend();
}

void Peer::resend() {
    for (auto &report : std::exchange(lost_links_, {}))
        send(std::move(report));
    if (aborted_ && !freeze_) send(wire::Abort{});
    if (exclusive_) {
        switch (exclusive_->kind) {
        case Call::update_topology: send(wire::VoteUpdate{exclusive_->number}); break;
        case Call::optimize_topology: send(wire::VoteOptimize{exclusive_->number}); break;
        case Call::sync_shared_state: send(exclusive_->offer); break;
        default: break;  // connect: the master knows its newcomers
        }
    }
    for (const auto &question : questions_)
        send(wire::AskPending{question.generation, question.k});
    for (const auto &made : graph_calls_)
        send(made.message);
    wire::Done done;
    for (const auto &[op, state] : ops_) {
        if (state.finished && done.ops.size() < wire::kMaxOpsInMessage) done.ops.push_back(op);
        if (state.fault) send(*state.fault);
    }
    if (!done.ops.empty()) send(std::move(done));
    if (frozen_) send(*frozen_);
    waiting_stale_ = true;
}

void Peer::on_link_event(const LinkEvent &in) {
    const wire::LinkReport report{in.other, in.attempt, in.up, in.round_trip_us, in.why};
    const auto link = links_.find(in.other);
    if (link != links_.end() && link->second.attempt == in.attempt) {
        link->second.up = in.up;
        link->second.round_trip_us = in.round_trip_us;
    }
    if (away())
        lost_links_.push_back(report);
    else
        send(report);
}

/// Keeps the commit until a Heartbeat shows that every member has received it.
void Peer::keep_commit(const wire::Commit &m) {
    if (!resumable_ || m.ops.empty() || m.ops.front().epoch != view_.epoch) return;
    ++commits_;
    recent_.push_back(m);
    recent_ops_ += m.ops.size();
    while (recent_.size() > wire::kMaxRecentCommits || recent_ops_ > wire::kMaxRecentOps) {
        recent_ops_ -= recent_.front().ops.size();
        recent_.pop_front();
    }
}

void Peer::on(const wire::Heartbeat &m) {
    if (m.epoch != view_.epoch) return;
    PCCL_ASSERT(commits_ >= recent_.size());
    while (!recent_.empty() && commits_ - recent_.size() < m.commits) {
        recent_ops_ -= recent_.front().ops.size();
        recent_.pop_front();
    }
}

void Peer::new_generation(std::uint64_t generation) {
    if (generation == generation_) return;
    generation_ = generation;
    asked_ = answered_ = 0;
    yes_from_ = wire::RecoveryReport::kNever;
}

}  // namespace pccl::protocol
