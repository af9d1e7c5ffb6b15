// Chooses the algorithm of an operation. Pure: the choice depends only on facts that all members share, so all members choose the
// same.
#pragma once

#include <cstddef>

#include "op/operation_spec.h"

namespace pccl::collective {

/// The slowest path between members, identical at all of them. 0 means that the value is unknown.
struct Path {
    double round_trip_us = 0;
    double mbit_per_s = 0;  ///< rate of one direction
};

/// True if the delay of the path dominates: then an operation sends more bytes in fewer hops, and in smaller chunks.
bool is_long(const Path &path);

/// Never returns `automatic`. A requested algorithm that cannot work here is replaced: direct by one-hop, one-hop by ring.
op::Algorithm choose_algorithm(const op::OperationSpec &spec, std::size_t members, bool full_mesh, const Path &path);

/// The largest chunk of a ring, in bytes of input elements. Chunks are smaller over a long path, because the receiver can use a
/// chunk only when all of it has arrived. On a short path chunks are larger where the wire format takes at most a byte per
/// element.
std::size_t max_chunk_bytes(const op::OperationSpec &spec, const Path &path);

/// The bytes in flight on the path, which is the distance that RingPlan::send_priority keeps between steps. 0 on a short path.
std::size_t bytes_in_flight(const Path &path);

}  // namespace pccl::collective
