// Distinct types for the things that are numbers on the wire.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace pccl {

/// An integer that does not mix with others. Ordered, so that ordered containers of it give the same run every time.
template <class Tag, class Rep>
struct Id {
    Rep value{};
    friend auto operator<=>(const Id &, const Id &) = default;
};

/// A peer's name in one run. Given in order of arrival, from 1; never used again after the peer is gone.
using PeerId = Id<struct PeerTag, std::uint64_t>;
inline std::string to_string(PeerId id) { return "peer " + std::to_string(id.value); }
using GroupId = Id<struct GroupTag, std::uint32_t>;
/// Numbers memberships. Grows at every change; 0 is "none yet".
using ViewNumber = Id<struct ViewTag, std::uint64_t>;
/// The caller's name of an operation among those in flight.
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

template <class T, class Rep>
struct std::hash<pccl::Id<T, Rep>> {
    std::size_t operator()(const pccl::Id<T, Rep> &id) const noexcept { return std::hash<Rep>{}(id.value); }
};
