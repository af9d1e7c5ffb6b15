// Which way an operation takes: a pure function of facts that all members share, so that all take the same.
#pragma once

#include <cstddef>

#include "wire/frame.h"

namespace pccl::collective {

/// What is known of the paths between the members, the same at all of them. 0: not known.
struct Path {
    double round_trip_us = 0;
    double mbit_per_s = 0;  ///< of one direction
};

/// Its delay counts: an operation sends more to wait less, and what it sends is cut smaller.
bool is_long(const Path &path);

/// Never `automatic`. What was asked for gives way where it cannot work: direct to one-hop to ring.
wire::Algorithm choose_algorithm(const wire::Fingerprint &what, std::size_t members, bool full_mesh, const Path &path);

/// The largest chunk of a ring, in bytes of input elements. Over a long path chunks are smaller: what several connections carry side by
/// side arrives a whole chunk at a time. Elsewhere they are larger where they travel in a byte for each element or less.
std::size_t max_chunk_bytes(const wire::Fingerprint &what, const Path &path);

/// What is under way at once, as far as it is worth holding as much back (RingPlan::turn); 0 where that does not count.
std::size_t bytes_under_way(const Path &path);

}  // namespace pccl::collective
