// See carry.h.
#include "protocol/carry.h"

#include <algorithm>
#include <set>

namespace pccl::protocol {

EpochOutcome end_calls(const std::map<Tag, std::uint32_t> &begun, const std::map<PeerId, std::vector<wire::CarriedOp>> &carried) {
    std::map<Tag, std::uint32_t> reached = begun;
    std::set<Tag> tags;
    std::map<Tag, wire::RepairedOp> repaired;
    for (const auto &[member, ops] : carried) {
        for (const auto &op : ops) {
            tags.insert(op.tag);
            reached[op.tag] = std::max(reached[op.tag], op.seq + 1);
        }
    }
    for (const Tag tag : tags) {
        const auto failed = begun.find(tag);
        if (failed == begun.end() || failed->second < reached[tag]) repaired[tag] = {tag, reached[tag] - 1, {}};
    }
    std::size_t ranges = 0;
    for (const auto &[member, ops] : carried) {
        for (const auto &op : ops) {
            const auto found = repaired.find(op.tag);
            if (found == repaired.end() || found->second.seq != op.seq || op.final.empty()) continue;
            ranges += op.final.size();
            found->second.holdings.push_back({member, op.final});
        }
    }
    // A View cannot contain it all. This is rare, so all these calls fail and start again.
    if (ranges > wire::kMaxViewRanges || repaired.size() > wire::kMaxOpsInMessage) repaired.clear();
    EpochOutcome ended;
    for (const auto &[tag, next_seq] : reached) {
        if (!repaired.contains(tag)) ended.begun.push_back({tag, next_seq});
    }
    for (auto &[tag, op] : repaired)
        ended.repaired.push_back(std::move(op));
    return ended;
}

bool well_formed(const std::vector<wire::CarriedOp> &carried) {
    std::set<Tag> tags;
    std::size_t ranges = 0;
    for (const auto &op : carried) {
        ranges += op.final.size();
        if (!tags.insert(op.tag).second || op.seq == UINT32_MAX || !wire::well_formed(op.final)) return false;
    }
    return ranges <= wire::kMaxFinalRanges;
}

}  // namespace pccl::protocol
