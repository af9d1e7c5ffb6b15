// The answers to pcclArePeersPending: the k-th question of a generation has the same answer at every member.
//
// A generation lasts from one pcclUpdateTopology to the next. The answers of a generation are "no" up to some k and "yes" from
// then on, for the run and for each group. The answer to the k-th question is fixed when the first member asks it. One exception:
// groups are not kept in step by a call of the whole run, so a group whose questions run ahead of another's by more than one
// fixes its own answers only. Otherwise the slower group would learn of a newcomer only after as many questions, or never. After
// any member was answered "yes", every member is, so that all call pcclUpdateTopology.
//
// Pure. The master's thread runs it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>

#include "base/ids.h"

namespace pccl::protocol {

class Questions {
public:
    /// The answer to question `k` of the current generation. `newcomer_ready`: one could be admitted now.
    bool ask(GroupId group_id, std::uint64_t k, bool newcomer_ready) {
        const bool now = answered_yes_ || newcomer_ready;
        if (k >= run_.asked) {
            if (now && !run_.yes_from) run_.yes_from = k;
            run_.asked = k + 1;
        }
        Answers &group = groups_[group_id];
        if (k >= group.asked) {
            const bool behind = k + 1 < run_.asked;
            if ((run_.is_yes(k) || (behind && now)) && !group.yes_from) group.yes_from = k;
            group.asked = k + 1;
        }
        const bool yes = group.is_yes(k);
        answered_yes_ = answered_yes_ || yes;
        return yes;
    }

    /// Adds the answers that a member of `group` received before the master restarted. `yes_from`: the first "yes", if there was
    /// one.
    void restore(GroupId group, std::uint64_t answered, std::optional<std::uint64_t> yes_from) {
        for (Answers *answers : {&run_, &groups_[group]}) {
            answers->asked = std::max(answers->asked, answered);
            if (yes_from) answers->yes_from = std::min(answers->yes_from.value_or(*yes_from), *yes_from);
        }
        answered_yes_ = answered_yes_ || yes_from;
    }

    void remove_group(GroupId group) { groups_.erase(group); }
    /// Forgets everything: a new generation begins.
    void clear() { *this = {}; }

private:
    struct Answers {
        std::uint64_t asked = 0;
        std::optional<std::uint64_t> yes_from;
        bool is_yes(std::uint64_t k) const { return yes_from && k >= *yes_from; }
    };
    Answers run_;
    std::map<GroupId, Answers> groups_;
    bool answered_yes_ = false;  ///< a member was answered "yes"
};

}  // namespace pccl::protocol
