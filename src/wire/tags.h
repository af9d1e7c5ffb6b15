// The messages by which a group agrees to forget the tags that no operation uses. src/protocol/tag_round.h says how.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "wire/codec.h"
#include "wire/limits.h"

namespace pccl::wire {

/// Begin no operation before ForgetTags of this round has come, and answer with TagsInUse.
struct AskTags {
    std::uint64_t round = 0;  ///< counts those of the epoch, from 1
};
template <class V> void visit(V &v, AskTags &m) { v(m.round); }

/// The answer to AskTags.
struct TagsInUse {
    std::uint64_t round = 0;
    std::uint32_t next_seq = 0;  ///< the largest number that the next operation with any other tag would have here
    bool too_many = false;       ///< they cannot all be named: no tag may be forgotten
    std::vector<Tag> tags;       ///< whose last operation has not ended here, or has failed before it was called here
};
template <class V> void visit(V &v, TagsInUse &m) {
    v(m.round);
    v(m.next_seq);
    v(m.too_many);
    v(bounded(m.tags, kMaxOpsInMessage));
}

/// Every tag but those of `keep` is forgotten: its next operation has the number `floor`.
struct ForgetTags {
    std::uint64_t round = 0;
    std::uint32_t floor = 0;  ///< as before, if nothing is forgotten
    std::vector<Tag> keep;    ///< ascending
};
template <class V> void visit(V &v, ForgetTags &m) {
    v(m.round);
    v(m.floor);
    v(bounded(m.keep, kMaxOpsInMessage));
}

}  // namespace pccl::wire
