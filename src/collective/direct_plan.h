// Cuts a member's contribution to a direct exchange into pieces. Pure arithmetic: every member computes the same pieces.
//
// On a short path a contribution is one piece. On a long path, a connection that has carried little data starts slowly: it sends
// a small number of packets per round trip and more only as those are acknowledged. So a contribution is cut into pieces that the
// lanes of a link carry in parallel.
#pragma once

#include <algorithm>
#include <cstddef>

#include "collective/ring_plan.h"

namespace pccl::collective {

class DirectPlan {
public:
    /// The number of pieces on a long path, within these limits of bytes per piece.
    static constexpr std::size_t kPieces = 16;
    static constexpr std::size_t kMinPiece = std::size_t{4} << 10;
    static constexpr std::size_t kMaxPiece = std::size_t{64} << 10;

    /// `count` is the number of elements, at least 1.
    DirectPlan(std::size_t count, std::size_t element_bytes, bool long_path) : count_(count), piece_(count) {
        if (!long_path) return;
        const std::size_t wanted = std::clamp(count * element_bytes / kPieces, kMinPiece, kMaxPiece);
        piece_ = std::min(count, wanted / element_bytes);
    }

    std::size_t pieces() const { return (count_ + piece_ - 1) / piece_; }
    /// Returns piece `i`, which must be less than pieces().
    Span piece(std::size_t i) const { return {i * piece_, std::min(piece_, count_ - i * piece_)}; }
    std::size_t max_piece_elements() const { return piece_; }

private:
    std::size_t count_;
    std::size_t piece_;
};

}  // namespace pccl::collective
