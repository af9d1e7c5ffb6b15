// Inputs of averages whose results identify, for each element, the contributing peers.
#pragma once

#include <pccl.h>

#include <cstddef>
#include <cstdint>
#include <map>

namespace pccl::tools {

/// The number of peers that results can distinguish, in slots from 0.
inline constexpr int kSlots = 4;

/// Writes the contribution of the peer in a slot: `count` elements. Averages over any of the slots are exact in every type of
/// four bytes and more, in float16 and in bfloat16.
void fill_slot(int slot, pcclDataType_t type, void *out, std::size_t count);

struct Participants {
    std::map<unsigned, std::uint64_t>
        elements;             ///< number of elements for each set of contributors, which has a bit for each slot
    std::uint64_t wrong = 0;  ///< elements that are not the average of any set of contributions
    std::size_t first_wrong = 0;
    double found = 0;  ///< the value found at that index
};
Participants check_participants(pcclDataType_t type, const void *result, std::size_t count);

}  // namespace pccl::tools
