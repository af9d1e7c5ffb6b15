// The specification of an operation: everything that its members must agree on. A collective is one row of kCollectiveTable and a
// plan in src/collective.
#pragma once

#include <bit>
#include <cstdint>

#include "op/quantization.h"

namespace pccl::op {

/// The messages of an operation: their senders, receivers and contents. Values equal those of the C API.
enum class Algorithm : std::uint8_t { automatic = 0, ring, direct, one_hop };
inline constexpr int kAlgorithms = 4;
inline constexpr const char *kAlgorithmNames[kAlgorithms] = {"auto", "ring", "direct", "one-hop"};

/// The action of an operation that loses a member. Values equal those of the C API.
enum class LossPolicy : std::uint8_t { retry = 0, repair };
inline constexpr int kLossPolicies = 2;

enum class Collective : std::uint8_t { all_reduce = 0, reduce_scatter, all_gather };
inline constexpr int kCollectives = 3;

/// The part of the whole buffer that a member's argument covers.
enum class Extent : std::uint8_t { whole, shard };

/// A step of a collective. A collective runs its phases in ascending order, without a barrier between them.
enum class Phase : std::uint8_t {
    reduce_to_owner = 0,  ///< contributions to a block are combined at the block's owner
    gather_from_owner,    ///< each owner's block goes to all members
};

/// A set of phases.
class Phases {
public:
    template <class... Each> constexpr explicit Phases(Each... phases) : bits_(((1U << static_cast<int>(phases)) | ... | 0U)) {}
    constexpr bool contains(Phase phase) const { return (bits_ >> static_cast<int>(phase) & 1U) != 0; }
    /// The set must not be empty.
    constexpr Phase first() const { return static_cast<Phase>(std::countr_zero(bits_)); }
    constexpr int count() const { return std::popcount(bits_); }
    friend bool operator==(const Phases &, const Phases &) = default;

private:
    std::uint32_t bits_;
};

/// A set of algorithms: bit a is set for the algorithm with value a.
using AlgorithmSet = std::uint32_t;
template <class... Algorithms> constexpr AlgorithmSet algorithms_of(Algorithms... algorithms) {
    return ((AlgorithmSet{1} << static_cast<int>(algorithms)) | ... | 0U);
}

struct CollectiveRow {
    const char *name;
    Extent input;   ///< what each member passes as `sendbuff`
    Extent output;  ///< what each member receives in `recvbuff`
    Phases phases;
    AlgorithmSet algorithms;  ///< algorithms that can carry it out
    bool repairs;             ///< LossPolicy::repair is available
};
/// One row for each collective, in the order of the values.
inline constexpr CollectiveRow kCollectiveTable[kCollectives] = {
    {"all-reduce", Extent::whole, Extent::whole, Phases{Phase::reduce_to_owner, Phase::gather_from_owner},
     algorithms_of(Algorithm::ring, Algorithm::direct, Algorithm::one_hop), true},
    {"reduce-scatter", Extent::whole, Extent::shard, Phases{Phase::reduce_to_owner},
     algorithms_of(Algorithm::ring, Algorithm::one_hop), false},
    {"all-gather", Extent::shard, Extent::whole, Phases{Phase::gather_from_owner},
     algorithms_of(Algorithm::ring, Algorithm::one_hop), false},
};

constexpr const CollectiveRow &row_of(Collective collective) { return kCollectiveTable[static_cast<int>(collective)]; }
constexpr bool is_sharded(Collective collective) {
    return row_of(collective).input == Extent::shard || row_of(collective).output == Extent::shard;
}
constexpr bool supports(Collective collective, Algorithm algorithm) {
    return (row_of(collective).algorithms & algorithms_of(algorithm)) != 0;
}
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
    constexpr Phases phases() const { return row_of(collective).phases; }
    constexpr bool has(Phase phase) const { return phases().contains(phase); }
    constexpr bool quantized() const { return quantization.algorithm != Quant::none; }
    /// True if contributions are combined: the operator has a meaning, and quantization has an error to feed back.
    constexpr bool combines() const { return has(Phase::reduce_to_owner); }
    /// True if an argument covers this member's shard only.
    constexpr bool sharded() const { return is_sharded(collective); }

    friend bool operator==(const OperationSpec &, const OperationSpec &) = default;
};

}  // namespace pccl::op
