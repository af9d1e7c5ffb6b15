// Contributions whose sum identifies the contributing members and can be checked exactly.
//
// A contribution consists of uint64 elements, which are summed. Element 0 has one bit per member (its *slot*, 0..63). Element 1
// is a nonce, so that equal sums mean the same operation. Element 2 is a vote. The others are a known function of slot, step
// and index. From the bits in element 0 of the result, the receiver knows the expected sum of all other elements.
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
    std::uint64_t members = 0;  ///< one bit per slot
    std::uint64_t digest = 0;   ///< digest of the operation
    std::uint64_t votes = 0;
    std::size_t wrong = 0;  ///< elements that differ from the sum of those members' contributions
    int size() const { return __builtin_popcountll(members); }
};

MembershipSum check_membership(std::uint64_t step, const std::uint64_t *result, std::size_t count);

}  // namespace pccl::tools
