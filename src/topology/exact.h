// The best ring over few peers, by dynamic programming over sets of them: O(2^n n^2).
#pragma once

#include <optional>

#include "topology/speeds.h"

namespace pccl::topology {

/// At least one and at most kExactLimit peers. nullopt: no ring.
std::optional<Ring> exact_ring(const Speeds &speeds);

}  // namespace pccl::topology
