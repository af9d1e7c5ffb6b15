// The graph of neighbours that a group's members request.
#pragma once

#include <cstdint>

#include "wire/codec.h"
#include "wire/limits.h"

namespace pccl::wire {

/// Values equal those of the C API.
enum class GraphKind : std::uint8_t {
    none = 0,
    ring,            ///< in the order of joining
    random_regular,  ///< every two members are neighbours with equal probability
    exponential,     ///< directed: to the members at distances 1, 2, 4, 8 ..., one per phase (push-sum)
    preferential  ///< each member chose `degree` earlier members with probability proportional to their degrees (Barabasi-Albert)
};
inline constexpr unsigned kGraphKinds = 5;
template <> struct EnumLimit<GraphKind> { static constexpr unsigned value = kGraphKinds; };

struct GraphSpec {
    GraphKind kind = GraphKind::none;
    std::uint32_t degree = 0;  ///< random_regular: 2 to kMaxDegree; preferential: 1 to kMaxDegree; otherwise 0
    std::uint64_t seed = 0;
    friend bool operator==(const GraphSpec &, const GraphSpec &) = default;

    bool well_formed() const {
        switch (kind) {
        case GraphKind::random_regular: return degree >= 2 && degree <= kMaxDegree;
        case GraphKind::preferential: return degree >= 1 && degree <= kMaxDegree;
        default: return degree == 0;
        }
    }
};
template <class V> void visit(V &v, GraphSpec &m) { v(m.kind, m.degree, m.seed); }

}  // namespace pccl::wire
