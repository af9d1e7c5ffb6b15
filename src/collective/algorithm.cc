#include "collective/algorithm.h"

#include <algorithm>

#include "collective/ring_plan.h"

namespace pccl::collective {

using op::Algorithm;
using op::Collective;

namespace {

/// Bytes of a contribution up to which the shorter way beats sending more on any path: measured on loopback (docs/internals/performance.md).
constexpr std::size_t kDirectBytes = std::size_t{32} << 10;
/// What may be asked for: each member holds the contributions of all. Without being asked, those of all others are together no more.
constexpr std::size_t kMaxDirectBytes = std::size_t{1} << 20;
/// Beyond, N-1 messages from each member cost more than the hops they save.
constexpr std::size_t kMaxDirectMembers = 64;

bool direct_works(const op::OperationSpec &what, std::size_t members, bool full_mesh, std::size_t limit) {
    const bool quantized = what.quantization.algorithm != op::Quant::none;
    return what.collective == Collective::all_reduce && full_mesh && !quantized && what.count <= limit && what.count * op::size_of(what.type) <= limit &&
           members <= kMaxDirectMembers;
}

constexpr double kLongPathUs = 1000;
/// On the wire it is no larger than others.
constexpr std::size_t kMaxQuantizedChunk = 4 * RingPlan::kMaxChunk;
constexpr std::size_t kLongPathChunk = std::size_t{64} << 10;
/// Round trips' worth that count as under way: queues make them longer.
constexpr double kRoundTrips = 1.5;
/// So much may wait in each step of a ring for its turn.
constexpr double kMostWaiting = 16 << 20;

/// Beyond, a member would have to hold too many parts at once.
constexpr std::size_t kMaxOneHopMembers = 256;

/// Unless they say otherwise.
constexpr double kUsualMbitPerS = 1000;
/// Larger buffers go round a ring, which loads each path evenly.
constexpr double kMostInTwoHops = 4 << 20;
/// Share of a transfer's time that shorter ways must save before they are taken: many streams into one member cost something, too.
constexpr double kWorthIt = 0.1;
/// What a delay that is saved must be, of what sending more for it takes.
constexpr double kWorthMore = 2;

bool one_hop_works(std::size_t members, bool full_mesh) { return full_mesh && members <= kMaxOneHopMembers; }

double buffer_bytes(const op::OperationSpec &what) {
    return static_cast<double>(what.count) * static_cast<double>(op::size_of(what.type));
}

double bytes_per_us(const Path &path) { return (path.mbit_per_s > 0 ? path.mbit_per_s : kUsualMbitPerS) / 8; }

/// What the whole buffer takes over one link.
double buffer_us(const op::OperationSpec &what, const Path &path) {
    return buffer_bytes(what) / bytes_per_us(path);
}

/// Two one-way delays instead of 2(N-1), for as many bytes; of a reduce-scatter or all-gather half of all three.
bool one_hop_saves(const op::OperationSpec &what, std::size_t members, const Path &path) {
    if (!is_long(path) || buffer_bytes(what) > kMostInTwoHops) return false;
    const auto n = static_cast<double>(members);
    return (n - 2) * path.round_trip_us > kWorthIt * 2 * (n - 1) / n * buffer_us(what, path);
}

/// One one-way delay instead of two, for (N - 1) contributions where a ring or two hops send 2(N - 1)/N: as many of two members.
bool direct_saves(const op::OperationSpec &what, std::size_t members, bool full_mesh, const Path &path) {
    if (!is_long(path) || members < 2 || !direct_works(what, members, full_mesh, kMaxDirectBytes / (members - 1))) return false;
    const auto n = static_cast<double>(members);
    return path.round_trip_us / 2 > kWorthMore * (n - 1) * (n - 2) / n * buffer_us(what, path);
}

Algorithm best(const op::OperationSpec &what, std::size_t members, bool full_mesh, const Path &path) {
    if (direct_works(what, members, full_mesh, kDirectBytes) || direct_saves(what, members, full_mesh, path)) return Algorithm::direct;
    if (!one_hop_works(members, full_mesh)) return Algorithm::ring;
    // Of these, a hop of a ring and an exchange send as much.
    if (what.collective != Collective::all_reduce && buffer_bytes(what) <= kDirectBytes && members <= kMaxDirectMembers) return Algorithm::one_hop;
    // A ring rounds a sum at every hop, so its error grows with the square root of the group. Between two members there is one
    // hop, and the ring does not round the owner's contribution.
    const bool rounded_at_hops = op::error_grows_by_hop(what.quantization) && what.collective != Collective::all_gather;
    if (rounded_at_hops && members > 2) return Algorithm::one_hop;
    return one_hop_saves(what, members, path) ? Algorithm::one_hop : Algorithm::ring;
}

}  // namespace

bool is_long(const Path &path) { return path.round_trip_us >= kLongPathUs; }

Algorithm choose_algorithm(const op::OperationSpec &what, std::size_t members, bool full_mesh, const Path &path) {
    switch (what.algorithm) {
    case Algorithm::automatic: return best(what, members, full_mesh, path);
    case Algorithm::ring: return Algorithm::ring;
    case Algorithm::direct:
        if (direct_works(what, members, full_mesh, kMaxDirectBytes)) return Algorithm::direct;
        break;
    case Algorithm::one_hop: break;
    }
    return one_hop_works(members, full_mesh) ? Algorithm::one_hop : Algorithm::ring;
}

std::size_t max_chunk_bytes(const op::OperationSpec &what, const Path &path) {
    if (is_long(path)) return kLongPathChunk;
    const bool in_bytes = what.quantization.algorithm != op::Quant::none && op::bits_of(what.quantization.type) <= 8;
    return in_bytes ? kMaxQuantizedChunk : RingPlan::kMaxChunk;
}

std::size_t bytes_under_way(const Path &path) {
    if (!is_long(path)) return 0;
    return static_cast<std::size_t>(std::min(kRoundTrips * path.round_trip_us * bytes_per_us(path), kMostWaiting));
}

}  // namespace pccl::collective
