// What a group's members ask their graph of neighbours to be.
#pragma once

#include <cstdint>

#include "wire/codec.h"
#include "wire/limits.h"

namespace pccl::wire {

/// Values equal those of the C API.
enum class GraphKind : std::uint8_t {
    none = 0,
    ring,           ///< in the order of joining
    random_regular, ///< any two members as likely neighbours as any other two
    exponential,    ///< directed: to the members 1, 2, 4, 8 ... places further on, in turn (push-sum)
    preferential    ///< each member chose `degree` of those before it, the more likely the more neighbours they had (Barabasi-Albert)
};
inline constexpr unsigned kGraphKinds = 5;
template <> struct EnumLimit<GraphKind> {
    static constexpr unsigned value = kGraphKinds;
};

struct GraphSpec {
    GraphKind kind = GraphKind::none;
    std::uint32_t degree = 0;  ///< 2 to kMaxDegree of a random regular one, 1 to that of a preferential one, else 0
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
template <class V> void visit(V &v, GraphSpec &m) {
    v(m.kind);
    v(m.degree);
    v(m.seed);
}

}  // namespace pccl::wire
