// Sums that name their members.
#include "common/membership_sum.h"

#include "common/mix.h"

namespace pccl::tools {

namespace {

/// The value is affine in the index, and so is the sum over members. A check takes one multiplication per element.
struct Pattern {
    std::uint64_t offset = 0;
    std::uint64_t slope = 0;
};

Pattern pattern_of(int slot, std::uint64_t step) {
    const std::uint64_t seed = mix(step * kMembershipSlots + static_cast<std::uint64_t>(slot));
    return {seed, mix(seed) | 1};
}

}  // namespace

void fill_membership(const Contribution &own, std::uint64_t *out, std::size_t count) {
    const Pattern pattern = pattern_of(own.slot, own.step);
    out[0] = std::uint64_t{1} << own.slot;
    out[1] = own.nonce;
    out[2] = own.vote;
    for (std::size_t i = kMembershipHeader; i < count; ++i)
        out[i] = pattern.offset + pattern.slope * i;
}

MembershipSum check_membership(std::uint64_t step, const std::uint64_t *result, std::size_t count) {
    MembershipSum sum{result[0], result[1], result[2], 0};
    Pattern total;
    for (int slot = 0; slot < kMembershipSlots; ++slot) {
        if ((sum.members >> slot & 1) == 0) continue;
        const Pattern pattern = pattern_of(slot, step);
        total.offset += pattern.offset;
        total.slope += pattern.slope;
    }
    for (std::size_t i = kMembershipHeader; i < count; ++i)
        sum.wrong += result[i] != total.offset + total.slope * i ? 1 : 0;
    return sum;
}

}  // namespace pccl::tools
