// See collective/repair_plan.h.
#include "collective/repair_plan.h"

#include <algorithm>

namespace pccl::collective {

namespace {

/// Iterates over one rank's ranges, in parallel with those of the other ranks.
class Cursor {
public:
    explicit Cursor(const op::FinalRanges &ranges) : ranges_(&ranges) {}

    /// Returns the range that contains `element`, or null. Lowers `until` to the element at which the answer changes. Calls
    /// have ascending elements.
    const op::FinalRange *at(std::uint64_t element, std::uint64_t &until) {
        while (next_ < ranges_->size() && (*ranges_)[next_].begin + (*ranges_)[next_].count <= element)
            ++next_;
        if (next_ == ranges_->size()) return nullptr;
        const auto &range = (*ranges_)[next_];
        until = std::min(until, element < range.begin ? range.begin : range.begin + range.count);
        return element < range.begin ? nullptr : &range;
    }

private:
    const op::FinalRanges *ranges_;
    std::size_t next_ = 0;
};

}  // namespace

RepairPlan plan_repair(std::size_t count, const std::vector<op::FinalRanges> &held, std::size_t max_chunk_elements) {
    std::vector<Cursor> cursors(held.begin(), held.end());
    const std::size_t most = std::max<std::size_t>(max_chunk_elements, 1);
    RepairPlan plan;
    for (std::size_t begin = 0; begin < count;) {
        std::uint64_t end = count;
        MissingChunk piece;
        piece.held.resize(held.size());
        std::size_t holders = 0;
        for (std::size_t rank = 0; rank < held.size(); ++rank) {
            const auto *range = cursors[rank].at(begin, end);
            if (!range) continue;
            piece.held[rank] = true;
            if (holders++ == 0) piece.members = range->members;
        }
        if (holders == 0) {
            if (!plan.open.empty() && plan.open.back().begin + plan.open.back().count == begin)
                plan.open.back().count += end - begin;
            else
                plan.open.push_back({begin, end - begin});
        }
        for (std::size_t at = begin; holders > 0 && holders < held.size() && at < end; at += piece.span.count) {
            piece.span = {at, std::min<std::size_t>(most, end - at)};
            plan.missing.push_back(piece);
        }
        begin = end;
    }
    return plan;
}

op::FinalRanges joined(op::FinalRanges ranges) {
    std::ranges::stable_sort(ranges, {}, &op::FinalRange::begin);
    op::FinalRanges out;
    for (auto range : ranges) {
        if (!out.empty()) {
            auto &last = out.back();
            const std::uint64_t end = last.begin + last.count, new_end = range.begin + range.count;
            if (new_end <= end) continue;
            if (range.begin <= end && range.members == last.members) {
                last.count = new_end - last.begin;
                continue;
            }
            range = {std::max(range.begin, end), new_end - std::max(range.begin, end), range.members};
        }
        if (range.count > 0) out.push_back(range);
    }
    return out;
}

Participation participation(const op::FinalRanges &ranges) {
    Participation found;
    for (const auto &range : ranges) {
        if (found.elements == 0 || range.members < found.fewest) found = {range.members, 0};
        if (range.members == found.fewest) found.elements += range.count;
    }
    return found;
}

}  // namespace pccl::collective
