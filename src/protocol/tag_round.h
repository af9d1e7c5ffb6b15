// How a group forgets the tags that no operation uses, so that a program that uses a new tag for every step does not grow. Pure.
//
// An operation is named by its tag and by the number of operations with that tag before it in the epoch. So every member must
// know that number for every tag. Members cannot forget a tag on their own: the next operation with it would have two names. So
// once `idle_tags` operations with new tags have ended, the master holds a round of three messages:
//
//   AskTags     each member stops starting operations, and answers at once
//   TagsInUse   the tags that have an operation that has not ended at this member, and the largest number of any other tag
//   ForgetTags  all members forget every tag that none of them uses, and start operations again
//
// Guarantee: when the last answer has arrived, every operation with a tag that no member named has ended at every member, and no
// other has started. Commit, OpFailed and AskTags arrive at all members in one order. So an operation that fails before AskTags
// is named by the members that have not called it, and one that fails later is named by those that have. So all members count a
// forgotten tag from the same number. That number, the floor, is larger than any that a forgotten tag has had. So no two
// operations have the same name, and a late frame of an old operation is recognized.
//
// A freeze ends a round without an outcome: in the next epoch every tag is new. A master that restarts finds in the recovery
// reports the last round of which any member has received the ForgetTags. A round of which no member has received it had no
// outcome.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "wire/tags.h"

namespace pccl::protocol {

class TagRound {
public:
    TagRound(std::uint64_t number, const std::vector<PeerId> &members)
        : number_(number), awaiting_(members.begin(), members.end()) {}

    void answer(PeerId member, const wire::TagsInUse &answer) {
        if (answer.round != number_ || awaiting_.erase(member) == 0) return;
        next_seq_ = std::max(next_seq_, answer.next_seq);
        too_many_ = too_many_ || answer.too_many;
        keep_.insert(answer.tags.begin(), answer.tags.end());
        if (keep_.size() > wire::kMaxOpsInMessage) too_many_ = true;
        if (too_many_) keep_.clear();
    }
    bool answered() const { return awaiting_.empty(); }

    /// `floor`: the floor before this round.
    wire::ForgetTags outcome(std::uint32_t floor) const {
        if (too_many_) return {number_, floor, {}};
        return {number_, std::max(floor, next_seq_), {keep_.begin(), keep_.end()}};
    }

private:
    std::uint64_t number_;
    std::set<PeerId> awaiting_;
    std::uint32_t next_seq_ = 0;
    bool too_many_ = false;
    std::set<Tag> keep_;
};

/// The master's record of the tags of a group's epoch.
struct TagCounts {
    std::uint32_t floor = 0;   ///< number of the first operation with an unknown tag
    std::uint64_t rounds = 0;  ///< rounds that had an outcome
    std::uint64_t fresh = 0;   ///< operations with the number `floor` that have ended: about the number of known tags
    std::optional<TagRound> round = {};
};

}  // namespace pccl::protocol
