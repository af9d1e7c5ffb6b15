// The invariants of a peer, and the end of a membership where one is broken (base/assert.h).
#include <algorithm>

#include "base/assert.h"
#include "protocol/peer.h"

namespace pccl::protocol {

using wire::Call;

/// The state of this machine is inconsistent, so none of it is used any more: the membership ends, and the process continues.
void Peer::fail(const std::string &why) {
    effects_->push_back(Log{LogLevel::error, why});
    effects_->push_back(HangUp{});
    end_everything(pcclInternalError, why);
}

/// These hold whatever the master sends. A faulty master can break the protocol, but not these invariants.
void Peer::check_invariants() const {
    const bool in_connect = exclusive_ && exclusive_->kind == Call::connect;
    PCCL_ASSERT(in_connect == (state_ == State::dialing || state_ == State::greeting || state_ == State::newcomer));
    // Only a member has calls besides pcclConnect.
    const bool idle = ops_.empty() && carried_.empty() && held_.empty() && lost_.empty();
    if (state_ != State::member) PCCL_ASSERT(idle && questions_.empty() && graph_calls_.empty());
    if (state_ == State::idle) PCCL_ASSERT(!exclusive_ && tags_.empty() && links_.empty() && view_.number == ViewNumber{});
    // A call of all members excludes operations.
    if (exclusive_) PCCL_ASSERT(idle);
    // A peer waits only for a master that keeps a journal.
    if (away()) PCCL_ASSERT(resumable_ && (state_ == State::newcomer || state_ == State::member));
    // A freeze ends or carries all operations; their calls and new ones wait for its view.
    if (freeze_)
        PCCL_ASSERT(ops_.empty());
    else
        PCCL_ASSERT(carried_.empty() && lost_.empty() && !frozen_ && (tag_round_ || held_.empty()));
    for (const auto &[op, state] : ops_)
        PCCL_ASSERT(op.epoch == view_.epoch);
    if (state_ == State::member && !view_.ring.empty()) PCCL_ASSERT(std::ranges::find(view_.ring, id_) != view_.ring.end());
    PCCL_ASSERT(recent_.size() <= commits_ && recent_.size() <= wire::kMaxRecentCommits && recent_ops_ <= wire::kMaxRecentOps);
    for (const auto &[tag, state] : tags_) {
        PCCL_ASSERT(state.failed_seqs.empty() || state.failed_seqs.begin()->first >= state.next_seq);
        PCCL_ASSERT(state.failed_seqs.size() <= wire::kMaxOpenOps);
        for (const auto &[calls, failure] : state.pending_failures)
            PCCL_ASSERT(calls > 0);
    }
}

}  // namespace pccl::protocol
