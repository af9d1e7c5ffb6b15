// A good ring over many peers. Deterministic: no clock, and random numbers from a fixed seed; the work is bounded by counting.
#pragma once

#include <optional>

#include "topology/speeds.h"

namespace pccl::topology {

/// At least three peers. Finds the largest threshold for which it can make a ring without a slower link, then the largest sum it
/// can among such rings. nullopt: found no ring.
std::optional<Ring> search_ring(const Speeds &speeds);

}  // namespace pccl::topology
