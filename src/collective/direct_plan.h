// How a member's contribution to a direct exchange is cut. Pure arithmetic, the same at every member.
//
// On a short path it goes whole. On a long one, a connection that has carried little starts slowly: a few packets per round trip, and more
// of them only as those are acknowledged. So there a contribution is cut in pieces that a link's connections carry side by side.
#pragma once

#include <algorithm>
#include <cstddef>

#include "collective/ring_plan.h"

namespace pccl::collective {

class DirectPlan {
public:
    /// Pieces that a contribution over a long path is cut in, where they are not smaller or larger than these bytes.
    static constexpr std::size_t kPieces = 16;
    static constexpr std::size_t kMinPiece = std::size_t{4} << 10;
    static constexpr std::size_t kMaxPiece = std::size_t{64} << 10;

    /// `count` elements, at least 1.
    DirectPlan(std::size_t count, std::size_t element_bytes, bool long_path) : count_(count), piece_(count) {
        if (!long_path) return;
        const std::size_t wanted = std::clamp(count * element_bytes / kPieces, kMinPiece, kMaxPiece);
        piece_ = std::min(count, wanted / element_bytes);
    }

    std::size_t pieces() const { return (count_ + piece_ - 1) / piece_; }
    /// i < pieces().
    Span piece(std::size_t i) const { return {i * piece_, std::min(piece_, count_ - i * piece_)}; }
    std::size_t max_piece_elements() const { return piece_; }

private:
    std::size_t count_;
    std::size_t piece_;
};

}  // namespace pccl::collective
