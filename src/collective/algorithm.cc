#include "collective/algorithm.h"

namespace pccl::collective {

using wire::Algorithm;

namespace {

/// Bytes of a contribution up to which the shorter way beats sending more: measured on loopback (docs/performance.md).
constexpr std::size_t kDirectBytes = std::size_t{32} << 10;
/// What may be asked for: each member holds the contributions of all.
constexpr std::size_t kMaxDirectBytes = std::size_t{1} << 20;
/// Beyond, N-1 messages from each member cost more than the hops they save.
constexpr std::size_t kMaxDirectMembers = 64;

bool direct_works(const wire::Fingerprint &what, std::size_t members, bool full_mesh, std::size_t limit) {
    const bool quantized = what.quantization.algorithm != kernel::Quant::none;
    return full_mesh && !quantized && what.count <= limit && what.count * kernel::size_of(what.type) <= limit &&
           members <= kMaxDirectMembers;
}

}  // namespace

Algorithm choose_algorithm(const wire::Fingerprint &what, std::size_t members, bool full_mesh, const Path &) {
    switch (what.algorithm) {
    case Algorithm::automatic: return direct_works(what, members, full_mesh, kDirectBytes) ? Algorithm::direct : Algorithm::ring;
    case Algorithm::direct: return direct_works(what, members, full_mesh, kMaxDirectBytes) ? Algorithm::direct : Algorithm::ring;
    case Algorithm::one_hop:
    case Algorithm::ring: break;
    }
    return Algorithm::ring;
}

}  // namespace pccl::collective
