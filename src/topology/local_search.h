// Finds a good ring over many peers. The search is deterministic: it uses no clock and takes random numbers from a fixed seed.
// A count of evaluated moves bounds the work.
#pragma once

#include <optional>

#include "topology/speeds.h"

namespace pccl::topology {

/// `speeds` covers at least three peers. Finds the largest threshold for which it can build a ring without a slower link, then
/// maximises the sum among such rings. Returns nullopt if it finds no ring.
std::optional<Ring> search_ring(const Speeds &speeds);

}  // namespace pccl::topology
