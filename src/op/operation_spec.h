// The specification of an operation: everything that its members must agree on. A collective is one row of kCollectiveTable and a plan
// in src/collective.
#pragma once

#include <cstdint>

#include "op/quantization.h"

namespace pccl::op {

/// The messages of an operation: their senders, receivers and contents. Values equal those of the C API.
enum class Algorithm : std::uint8_t { automatic = 0, ring, direct, one_hop };
inline constexpr int kAlgorithms = 4;
inline constexpr const char *kAlgorithmNames[kAlgorithms] = {"auto", "ring", "direct", "one-hop"};

/// What an operation does when it loses a member. Values equal those of the C API.
enum class LossPolicy : std::uint8_t { retry = 0, repair };
inline constexpr int kLossPolicies = 2;

enum class Collective : std::uint8_t { all_reduce = 0, reduce_scatter, all_gather };
inline constexpr int kCollectives = 3;

/// The part of the whole buffer that a member's argument covers.
enum class Extent : std::uint8_t { whole, shard };

struct CollectiveRow {
    const char *name;
    Extent input;   ///< what each member passes as `sendbuff`
    Extent output;  ///< what each member receives in `recvbuff`
    bool reduces;   ///< first phase: contributions to a block are combined at the block's owner
    bool gathers;   ///< second phase: each owner's block goes to all members
};
/// One row for each collective, in the order of the values.
inline constexpr CollectiveRow kCollectiveTable[kCollectives] = {
    {"all-reduce", Extent::whole, Extent::whole, true, true},
    {"reduce-scatter", Extent::whole, Extent::shard, true, false},
    {"all-gather", Extent::shard, Extent::whole, false, true},
};

constexpr const CollectiveRow &row_of(Collective collective) { return kCollectiveTable[static_cast<int>(collective)]; }
constexpr const char *name_of(Collective collective) { return row_of(collective).name; }
constexpr const char *name_of(Algorithm algorithm) { return kAlgorithmNames[static_cast<int>(algorithm)]; }

struct OperationSpec {
    std::uint64_t count = 0;  ///< elements of the whole buffer
    Type type{};
    Op op{};
    Quantization quantization;
    Algorithm algorithm{};  ///< as requested; `automatic` lets the members choose
    bool error_feedback = false;
    LossPolicy on_peer_loss{};
    Collective collective{};

    constexpr Extent input() const { return row_of(collective).input; }
    constexpr Extent output() const { return row_of(collective).output; }
    constexpr bool reduces() const { return row_of(collective).reduces; }
    constexpr bool gathers() const { return row_of(collective).gathers; }

    friend bool operator==(const OperationSpec &, const OperationSpec &) = default;
};

}  // namespace pccl::op
