// The peer's side of a tag round (tag_round.h).
#include <set>

#include "protocol/peer.h"

namespace pccl::protocol {

/// The state of a tag. A tag without one was forgotten at every member or is new at every member, so they agree on its first
/// number.
Peer::TagState &Peer::tag_state(Tag tag) {
    const auto [at, unknown] = tags_.try_emplace(tag);
    if (unknown) at->second.next_seq = floor_;
    return at->second;
}

void Peer::on(const wire::AskTags &m) {
    if (state_ != State::member || freeze_) return;
    tag_round_ = m.round;
    wire::TagsInUse answer;
    answer.round = m.round;
    for (const auto &[tag, state] : tags_) {
        if (state.over && state.failed_seqs.empty()) {
            answer.next_seq = std::max(answer.next_seq, state.next_seq);
        } else if (answer.tags.size() < wire::kMaxOpsInMessage) {
            answer.tags.push_back(tag);
        } else {
            answer.too_many = true;
        }
    }
    send(std::move(answer));
}

void Peer::on(const wire::ForgetTags &m) {
    if (state_ != State::member || freeze_) return;
    if (forgotten_ && forgotten_->round >= m.round) return;
    if (m.floor > floor_) {
        const std::set<Tag> keep(m.keep.begin(), m.keep.end());
        for (const Tag tag : keep)
            tag_state(tag);  // keeps its number, which is not the new floor
        for (auto it = tags_.begin(); it != tags_.end();) {
            auto &[tag, state] = *it;
            if (!keep.contains(tag)) {
                state = {m.floor, true, {}, std::move(state.pending_failures)};
                if (state.pending_failures.empty()) {
                    it = tags_.erase(it);
                    continue;
                }
            }
            ++it;
        }
        floor_ = m.floor;
        std::erase_if(failures_, [&](const auto &failed) { return failed.op.seq < m.floor && !keep.contains(failed.op.tag); });
    }
    effects_->push_back(DropTags{m.keep, m.floor});
    forgotten_ = m;
    end_tag_round();
}

/// Starts the calls that were held during the round.
void Peer::end_tag_round() {
    if (!std::exchange(tag_round_, std::nullopt) || freeze_) return;
    for (const auto &held : std::exchange(held_, {}))
        open_op(held);
}

}  // namespace pccl::protocol
