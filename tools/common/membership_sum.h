// Contributions whose sum shows exactly which members took part and can be checked exactly.
//
// A contribution is uint64 elements, summed. Element 0 is one bit per member (its *slot*, 0..63), element 1 a nonce, so that
// equal sums mean the same operation, element 2 a vote; the others are a known function of slot, step and index. From the bits of
// the result, the receiver knows the expected sum of all other elements.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pccl::tools {

inline constexpr std::size_t kMembershipHeader = 3;
inline constexpr int kMembershipSlots = 64;

struct Contribution {
    int slot = 0;
    std::uint64_t step = 0;  ///< the same at all members
    std::uint64_t nonce = 0;
    std::uint64_t vote = 0;
};

/// Writes `count` elements, at least kMembershipHeader.
void fill_membership(const Contribution &own, std::uint64_t *out, std::size_t count);

struct MembershipSum {
    std::uint64_t members = 0;      ///< one bit per slot
    std::uint64_t digest = 0;  ///< of the operation
    std::uint64_t votes = 0;
    std::size_t wrong = 0;  ///< elements that are not what those members' contributions add up to
    int size() const { return __builtin_popcountll(members); }
};

MembershipSum check_membership(std::uint64_t step, const std::uint64_t *result, std::size_t count);

}  // namespace pccl::tools
