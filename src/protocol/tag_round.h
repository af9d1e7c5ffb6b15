// How a group forgets the tags that no operation uses, so that a program that takes a new tag for every step does not grow. Pure.
//
// An operation is named by its tag and by how many operations with that tag came before it in the epoch, so every member has to know that
// number for every tag. Members cannot forget a tag on their own: the next operation with it would have two names. So once the master
// has ended `idle_tags` operations with tags that were new, it holds a round of three messages:
//
//   AskTags     each member stops beginning operations, and answers at once
//   TagsInUse   which tags have an operation that has not ended at this member, and the largest number of any other tag
//   ForgetTags  all members forget every tag that none of them uses, and begin again
//
// Guarantee: when the last answer has come, every operation with a tag that no member named has ended at every member, and no other has
// begun. Commit, OpFailed and AskTags come to all members in one order, so an operation that fails before AskTags is named by the members
// that have not called it, and one that fails later is named by those that have. So all members count a forgotten tag from the same number.
// That number, the floor, is larger than any that a forgotten tag has had, so no name is given twice, and a late frame of an old operation
// is recognized.
//
// A freeze ends a round without an outcome: in the next epoch every tag is new. A master that restarts finds in the members' accounts
// the last round that any of them has heard the end of. A round that nobody has heard the end of had no outcome.
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
    TagRound(std::uint64_t number, const std::vector<PeerId> &members) : number_(number), awaiting_(members.begin(), members.end()) {}

    void answer(PeerId member, const wire::TagsInUse &answer) {
        if (answer.round != number_ || awaiting_.erase(member) == 0) return;
        next_seq_ = std::max(next_seq_, answer.next_seq);
        too_many_ = too_many_ || answer.too_many;
        keep_.insert(answer.tags.begin(), answer.tags.end());
        if (keep_.size() > wire::kMaxOpsInMessage) too_many_ = true;
        if (too_many_) keep_.clear();
    }
    bool answered() const { return awaiting_.empty(); }

    /// `floor`: as it was in this round.
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

/// What the master knows of the tags of a group's epoch.
struct TagCounts {
    std::uint32_t floor = 0;      ///< number of the first operation with a tag that is not known
    std::uint64_t rounds = 0;     ///< that had an outcome
    std::uint64_t fresh = 0;      ///< operations with the number `floor` that have ended, about as many as tags are known
    std::optional<TagRound> round = {};
};

}  // namespace pccl::protocol
