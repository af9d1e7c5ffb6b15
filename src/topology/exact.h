// Finds the best ring over a small number of peers by dynamic programming over sets of peers, in O(2^n n^2).
#pragma once

#include <optional>

#include "topology/speeds.h"

namespace pccl::topology {

/// `speeds` covers 1 to kExactLimit peers. Returns nullopt if there is no ring.
std::optional<Ring> exact_ring(const Speeds &speeds);

}  // namespace pccl::topology
