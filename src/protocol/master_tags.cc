// The master's part in forgetting tags (tag_round.h).
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

void Master::count_tags(Group &group, const wire::Commit &commit) {
    for (const OpId &op : commit.ops)
        group.tags.fresh += op.seq == group.tags.floor;
}

/// Starts a round if enough new tags were used. Not during another round, and not in a freeze: it ends the epoch and all of its
/// names.
void Master::ask_tags(GroupId id, Group &group) {
    if (group.freeze || group.tags.round || group.tags.fresh < options_.idle_tags) return;
    const auto members = members_of(id);
    if (members.empty()) return;
    const std::uint64_t number = group.tags.rounds + 1;
    group.tags.round.emplace(number, members);
    for (const PeerId m : members)
        send(peers_.at(m), wire::AskTags{number});
}

void Master::on(Peer &peer, const wire::TagsInUse &answer) {
    Group &group = groups_.at(peer.group);
    if (!group.tags.round) return;  // a freeze ended it
    group.tags.round->answer(peer.id, answer);
    if (!group.tags.round->answered()) return;
    const wire::ForgetTags outcome = group.tags.round->outcome(group.tags.floor);
    // These operations failed at every member, and every member knows it.
    std::erase_if(group.failed,
                  [&](const OpId &op) { return op.seq < outcome.floor && !std::ranges::binary_search(outcome.keep, op.tag); });
    group.tags = {outcome.floor, outcome.round, 0, {}};
    for (const PeerId m : members_of(peer.group))
        send(peers_.at(m), outcome);
}

/// After a restart. Members do not report how many tags they know; it is about the number of committed operations at most.
void Master::restore_tags(Group &group, const std::optional<wire::ForgetTags> &last) {
    group.tags = {last ? last->floor : 0, last ? last->round : 0, group.commits, {}};
}

}  // namespace pccl::protocol
