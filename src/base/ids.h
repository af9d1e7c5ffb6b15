// Distinct types for identifiers that are numbers on the wire.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace pccl {

/// An integer that does not convert to other types. Ordered, so that iteration over ordered containers is deterministic.
template <class Tag, class Rep> struct Id {
    Rep value{};
    friend auto operator<=>(const Id &, const Id &) = default;
};

/// Identifies a peer in one run. Assigned in the order of arrival, from 1, and never reused.
using PeerId = Id<struct PeerTag, std::uint64_t>;
inline std::string to_string(PeerId id) { return "peer " + std::to_string(id.value); }
using GroupId = Id<struct GroupTag, std::uint32_t>;
/// The number of a membership. Increases at every change; 0: none yet.
using ViewNumber = Id<struct ViewTag, std::uint64_t>;
/// The number by which the caller identifies an operation among those in flight.
using Tag = Id<struct OpTag, std::uint64_t>;

/// 128 unguessable bits.
using Secret = std::array<std::uint8_t, 16>;

/// One collective operation: the `seq`-th with `tag` since the group's view `epoch`.
struct OpId {
    ViewNumber epoch;
    Tag tag;
    std::uint32_t seq = 0;
    friend auto operator<=>(const OpId &, const OpId &) = default;
};

}  // namespace pccl

template <class T, class Rep> struct std::hash<pccl::Id<T, Rep>> {
    std::size_t operator()(const pccl::Id<T, Rep> &id) const noexcept { return std::hash<Rep>{}(id.value); }
};
