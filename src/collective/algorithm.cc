// See collective/algorithm.h.
#include "collective/algorithm.h"

#include <algorithm>

#include "collective/ring_plan.h"

namespace pccl::collective {

using op::Algorithm;

namespace {

/// Up to this many bytes a direct exchange is faster on any path, although it sends more: measured on loopback
/// (docs/internals/performance.md).
constexpr std::size_t kDirectBytes = std::size_t{32} << 10;
/// The largest contribution of a requested direct exchange, because each member holds the contributions of all. When the
/// algorithm is automatic, this is the limit of the other members' contributions together.
constexpr std::size_t kMaxDirectBytes = std::size_t{1} << 20;
/// With more members, N-1 messages from each member cost more than the hops that they save.
constexpr std::size_t kMaxDirectMembers = 64;

bool direct_works(const op::OperationSpec &spec, std::size_t members, bool full_mesh, std::size_t limit) {
    return op::supports(spec.collective, Algorithm::direct) && full_mesh && !spec.quantized() && spec.count <= limit &&
           spec.count * op::size_of(spec.type) <= limit && members <= kMaxDirectMembers;
}

constexpr double kLongPathUs = 1000;
/// At most one byte per element is sent, so on the wire such a chunk is no larger than others.
constexpr std::size_t kMaxQuantizedChunk = 4 * RingPlan::kMaxChunk;
constexpr std::size_t kLongPathChunk = std::size_t{64} << 10;
/// Bytes in flight are those of this many round trips, because queues make a round trip longer than the one measured.
constexpr double kRoundTrips = 1.5;
/// Limit of the bytes that wait in a step of a ring for their turn.
constexpr double kMaxQueuedBytes = 16 << 20;

/// With more members, a member would hold too many contributions at once.
constexpr std::size_t kMaxOneHopMembers = 256;

/// The assumed bandwidth of a path that has not been measured.
constexpr double kDefaultMbitPerS = 1000;
/// Larger buffers take the ring, which loads all paths evenly.
constexpr double kMaxOneHopBytes = 4 << 20;
/// The share of the transfer time that one-hop must save to be chosen. Many streams into one member have an additional cost.
constexpr double kMinRelativeSaving = 0.1;
/// The delay that a direct exchange saves must be this many times the time that its additional bytes take.
constexpr double kMinDelayGain = 2;

bool one_hop_works(std::size_t members, bool full_mesh) { return full_mesh && members <= kMaxOneHopMembers; }

double buffer_bytes(const op::OperationSpec &spec) {
    return static_cast<double>(spec.count) * static_cast<double>(op::size_of(spec.type));
}

double bytes_per_us(const Path &path) { return (path.mbit_per_s > 0 ? path.mbit_per_s : kDefaultMbitPerS) / 8; }

/// Returns the time that the whole buffer takes over one link.
double buffer_us(const op::OperationSpec &spec, const Path &path) { return buffer_bytes(spec) / bytes_per_us(path); }

/// One-hop has two one-way delays instead of 2(N-1) and sends equally many bytes. A collective with one phase has half of all
/// three.
bool one_hop_saves(const op::OperationSpec &spec, std::size_t members, const Path &path) {
    if (!is_long(path) || buffer_bytes(spec) > kMaxOneHopBytes) return false;
    const auto n = static_cast<double>(members);
    return (n - 2) * path.round_trip_us > kMinRelativeSaving * 2 * (n - 1) / n * buffer_us(spec, path);
}

/// A direct exchange has one one-way delay instead of two and sends N-1 contributions where a ring or one-hop sends 2(N-1)/N.
/// Between two members both numbers are equal.
bool direct_saves(const op::OperationSpec &spec, std::size_t members, bool full_mesh, const Path &path) {
    if (!is_long(path) || members < 2 || !direct_works(spec, members, full_mesh, kMaxDirectBytes / (members - 1))) return false;
    const auto n = static_cast<double>(members);
    return path.round_trip_us / 2 > kMinDelayGain * (n - 1) * (n - 2) / n * buffer_us(spec, path);
}

Algorithm best(const op::OperationSpec &spec, std::size_t members, bool full_mesh, const Path &path) {
    if (direct_works(spec, members, full_mesh, kDirectBytes) || direct_saves(spec, members, full_mesh, path))
        return Algorithm::direct;
    if (!one_hop_works(members, full_mesh)) return Algorithm::ring;
    // With one phase, a ring and an exchange send equally many bytes, and the exchange has one hop.
    if (spec.phases().count() == 1 && buffer_bytes(spec) <= kDirectBytes && members <= kMaxDirectMembers)
        return Algorithm::one_hop;
    // A ring rounds a sum at every hop, so its error grows with the square root of the group. Between two members there is one
    // hop, and the ring does not round the owner's contribution.
    const bool rounded_at_hops = op::error_grows_by_hop(spec.quantization) && spec.has(op::Phase::reduce_to_owner);
    if (rounded_at_hops && members > 2) return Algorithm::one_hop;
    return one_hop_saves(spec, members, path) ? Algorithm::one_hop : Algorithm::ring;
}

}  // namespace

bool is_long(const Path &path) { return path.round_trip_us >= kLongPathUs; }

Algorithm choose_algorithm(const op::OperationSpec &spec, std::size_t members, bool full_mesh, const Path &path) {
    switch (spec.algorithm) {
    case Algorithm::automatic: return best(spec, members, full_mesh, path);
    case Algorithm::ring: return Algorithm::ring;
    case Algorithm::direct:
        if (direct_works(spec, members, full_mesh, kMaxDirectBytes)) return Algorithm::direct;
        break;
    case Algorithm::one_hop: break;
    }
    return one_hop_works(members, full_mesh) ? Algorithm::one_hop : Algorithm::ring;
}

std::size_t max_chunk_bytes(const op::OperationSpec &spec, const Path &path) {
    if (is_long(path)) return kLongPathChunk;
    const bool in_bytes = spec.quantization.algorithm != op::Quant::none && op::bits_of(spec.quantization.type) <= 8;
    return in_bytes ? kMaxQuantizedChunk : RingPlan::kMaxChunk;
}

std::size_t bytes_in_flight(const Path &path) {
    if (!is_long(path)) return 0;
    return static_cast<std::size_t>(std::min(kRoundTrips * path.round_trip_us * bytes_per_us(path), kMaxQueuedBytes));
}

}  // namespace pccl::collective
