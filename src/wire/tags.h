// The messages with which a group agrees to forget the tags that no operation uses. src/protocol/tag_round.h describes the round.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "wire/codec.h"
#include "wire/limits.h"

namespace pccl::wire {

/// Start no operation before ForgetTags of this round, and answer with TagsInUse.
struct AskTags {
    std::uint64_t round = 0;  ///< number of the round in the epoch, from 1
};
template <class V> void visit(V &v, AskTags &m) { v(m.round); }

/// The answer to AskTags.
struct TagsInUse {
    std::uint64_t round = 0;
    std::uint32_t next_seq = 0;  ///< the largest number that the next operation with a tag not in `tags` would have here
    bool too_many = false;       ///< the message cannot name all tags in use: no tag can be forgotten
    std::vector<Tag> tags;       ///< tags whose last operation has not ended here, or failed before it was called here
};
template <class V> void visit(V &v, TagsInUse &m) { v(m.round, m.next_seq, m.too_many, bounded(m.tags, kMaxOpsInMessage)); }

/// Forget every tag that is not in `keep`: its next operation has the number `floor`.
struct ForgetTags {
    std::uint64_t round = 0;
    std::uint32_t floor = 0;  ///< unchanged if no tag is forgotten
    std::vector<Tag> keep;    ///< ascending
};
template <class V> void visit(V &v, ForgetTags &m) { v(m.round, m.floor, bounded(m.keep, kMaxOpsInMessage)); }

}  // namespace pccl::wire
