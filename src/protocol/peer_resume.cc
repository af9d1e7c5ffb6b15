// When the master goes, and comes back.
//
// A master that keeps a journal is waited for: nothing here ends, operations run on between the peers, and calls that need the master
// take longer by the time that it is away. What would have been told to it meanwhile is not queued: once it is back it is told what
// is so then. First, who this peer was; then all that it has heard of what was agreed (Account). The master answers with what others
// have heard and this peer has not, and with Resumed; then what is still waited for is said again.
#include "protocol/peer.h"

#include <algorithm>

namespace pccl::protocol {

using wire::Call;

namespace {

constexpr Duration kFirstRedial = std::chrono::milliseconds(50);
constexpr Duration kLastRedial = std::chrono::milliseconds(250);

}  // namespace

void Peer::master_gone(const std::string &why) {
    if (!resumable_) return end_everything(pcclMasterConnectionFailed, why + "; it keeps no journal: call pcclConnect to join its next run");
    if (contact_ == Contact::there) {
        gone_since_ = now_;
        redial_after_ = kFirstRedial;
        effects_->push_back(Say{LogLevel::warn, why + "; waiting for it to come back, for " + to_string(options_.master_limit)});
    }
    contact_ = Contact::gone;
    redial_at_ = now_ + redial_after_;
    redial_after_ = std::min(2 * redial_after_, kLastRedial);
}

/// A tick while it is away.
void Peer::wait_for_master() {
    if (now_ - gone_since_ >= options_.master_limit) {
        effects_->push_back(HangUp{});
        return end_everything(pcclMasterConnectionFailed, "the master has been gone for " + to_string(now_ - gone_since_) +
                                                              ", which is this peer's limit; call pcclConnect to join again");
    }
    if (contact_ != Contact::gone || now_ < redial_at_) return;
    contact_ = Contact::dialing;
    effects_->push_back(DialMaster{});
}

void Peer::introduce() {
    contact_ = Contact::introduced;
    master_heard_ = now_;
    wire::Resume resume;
    resume.hello = hello();
    resume.run = run_;
    resume.peer = id_;
    resume.secret = secret_;
    resume.member = state_ == State::member;
    resume.view = view_.number;
    say(std::move(resume));
}

void Peer::recognized(const wire::Welcome &m) {
    if (m.you == id_ && m.run == run_) {
        contact_ = Contact::accounted;
        lost_links_.clear();  // the account says how links are now
        return say(account());
    }
    if (state_ == State::newcomer) return begin_again(m);
    effects_->push_back(HangUp{});
    end_everything(pcclMasterConnectionFailed, "another master serves where this peer's was; call pcclConnect to join its run");
}

/// A newcomer that the last master had not admitted, and the new one does not know.
void Peer::begin_again(const wire::Welcome &m) {
    for (const auto &[other, link] : std::exchange(links_, {}))
        effects_->push_back(DropLink{other});
    lost_links_.clear();
    take_name(m);
}

wire::Hello Peer::hello() const {
    return {wire::kMagic, wire::kVersion, options_.group, options_.advertised, options_.lanes, options_.island, options_.island_peers};
}

void Peer::take_name(const wire::Welcome &m) {
    contact_ = Contact::there;
    id_ = m.you;
    run_ = m.run;
    secret_ = m.secret;
    resumable_ = m.resumable;
}

wire::Account Peer::account() const {
    wire::Account account;
    account.view = view_.number;
    account.epoch = view_.epoch;
    account.generation = generation_;
    account.answered = answered_;
    account.yes_from = yes_from_;
    account.run_answer = run_answer_;
    account.group_answer = group_answer_;
    if (exclusive_) {
        account.open = exclusive_->kind;
        account.open_number = exclusive_->number;
    }
    account.aborted = aborted_;
    if (frozen_) account.frozen.push_back(*frozen_);
    for (const auto &[other, link] : links_)
        account.links.push_back(link);
    account.commits = commits_;
    account.recent.assign(recent_.begin(), recent_.end());
    account.failures = failures_;
    for (const auto &[op, state] : ops_) {
        if (state.finished && account.done.size() < wire::kMaxOpsInMessage) account.done.push_back(op);
    }
    if (forgotten_) account.forgotten.push_back(*forgotten_);
    return account;
}

void Peer::hear(const wire::Resumed &m) {
    new_generation(m.generation);
    run_answer_.decision = std::max(run_answer_.decision, m.decision);
    if (contact_ != Contact::accounted) return;
    contact_ = Contact::there;
    effects_->push_back(Say{LogLevel::warn, "the master is back after " + to_string(now_ - gone_since_)});
    end_tag_round();  // a round whose end had come to any member was caught up with; another had no outcome
    say_again();
}

void Peer::say_again() {
    for (auto &report : std::exchange(lost_links_, {}))
        tell(std::move(report));
    if (aborted_ && !freeze_) tell(wire::Abort{});
    if (exclusive_) {
        switch (exclusive_->kind) {
        case Call::update_topology: tell(wire::VoteUpdate{exclusive_->number}); break;
        case Call::optimize_topology: tell(wire::VoteOptimize{exclusive_->number}); break;
        case Call::sync_shared_state: tell(exclusive_->offer); break;
        default: break;  // connect: the master knows who waits to be admitted
        }
    }
    for (const auto &question : questions_)
        tell(wire::AskPending{question.generation, question.k});
    for (const auto &made : graph_calls_)
        tell(made.asked);
    wire::Done done;
    for (const auto &[op, state] : ops_) {
        if (state.finished && done.ops.size() < wire::kMaxOpsInMessage) done.ops.push_back(op);
        if (state.fault) tell(*state.fault);
    }
    if (!done.ops.empty()) tell(std::move(done));
    if (frozen_) tell(*frozen_);
    waiting_stale_ = true;
}

void Peer::note_link(const LinkEvent &in) {
    const wire::LinkReport report{in.other, in.attempt, in.up, in.round_trip_us, in.why};
    const auto link = links_.find(in.other);
    if (link != links_.end() && link->second.attempt == in.attempt) {
        link->second.up = in.up;
        link->second.round_trip_us = in.round_trip_us;
    }
    if (away())
        lost_links_.push_back(report);
    else
        tell(report);
}

/// Kept until every member is known to have heard of it (Heartbeat).
void Peer::remember(const wire::Commit &m) {
    if (!resumable_ || m.ops.empty() || m.ops.front().epoch != view_.epoch) return;
    ++commits_;
    recent_.push_back(m);
    recent_ops_ += m.ops.size();
    while (recent_.size() > wire::kMaxRecentCommits || recent_ops_ > wire::kMaxRecentOps) {
        recent_ops_ -= recent_.front().ops.size();
        recent_.pop_front();
    }
}

void Peer::hear(const wire::Heartbeat &m) {
    if (m.epoch != view_.epoch) return;
    while (!recent_.empty() && commits_ - recent_.size() < m.commits) {
        recent_ops_ -= recent_.front().ops.size();
        recent_.pop_front();
    }
}

void Peer::new_generation(std::uint64_t generation) {
    if (generation == generation_) return;
    generation_ = generation;
    asked_ = answered_ = 0;
    yes_from_ = wire::Account::kNever;
}

}  // namespace pccl::protocol
