// The outer state of a trainer: flat buffers in one block of memory, counters that are equal at all peers, a digest, and
// checkpoint files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <pccl/train.h>

#include "train/layout.h"
#include "train/memory.h"
#include "train/outcome.h"

namespace pccl::train {

/// Part of the shared state, as one tensor of 64-bit words.
struct Counters {
    std::uint64_t outer_steps = 0;
    std::uint64_t inner_steps = 0;
    std::uint64_t held = 0;   ///< 1: an average is kept and will be applied in the next outer step
    double usual_move = 0.0;  ///< running mean of the norms of the outer parameters' changes, per step (gap-aware penalty)
    double last_move = 0.0;   ///< norm of the last change
    std::uint64_t age = 0;    ///< inner steps in this peer's model (gossip)
    std::uint64_t reserved[2]{};
};
constexpr std::size_t kCounterWords = sizeof(Counters) / sizeof(std::uint64_t);

/// Which buffers a method needs. Each is `layout.size` floats.
struct Buffers {
    bool momentum = false;
    bool average = false;   ///< pseudo-gradient and average
    bool overlay = false;   ///< start points and the overlay's momentum
    bool exchange = false;  ///< an outgoing model, an incoming model, and a sum of models
};

constexpr std::size_t kHeaderFloats = 16;  ///< size of the header that precedes a model in a message

class OuterState {
public:
    static std::size_t bytes(const Layout &layout, const Buffers &which);
    /// Takes its buffers from the memory that the configuration selects.
    Outcome open(const pcclTrainerConfig_t &config, std::string state_file, const Layout &layout, const Buffers &which);

    /// A hash of the parameters, the momentum and the counters.
    std::uint64_t digest() const;

    float *parameters = nullptr;
    float *momentum = nullptr;         ///< or NULL
    float *pseudo_gradient = nullptr;  ///< this peer's
    float *average = nullptr;          ///< the average over all peers
    float *start = nullptr;            ///< the pseudo-gradient is measured from here, if not from `parameters`
    float *overlay_momentum = nullptr;
    float *outgoing = nullptr;  ///< a header of kHeaderFloats and a model
    float *incoming = nullptr;  ///< a header of kHeaderFloats and a model
    double *sum = nullptr;
    Counters counters;
    std::size_t size = 0;

private:
    Memory memory_;
};

/// Writes parameters, momentum and counters. Tensors are stored by name, so the file does not depend on the layout. After a
/// failure the previous file is unchanged.
Outcome save_state(const std::string &path, const OuterState &state, const Layout &layout,
                   const std::vector<Parameter> &parameters, std::uint64_t revision);
/// Reads a file of save_state. Changes nothing if it fails.
Outcome load_state(const std::string &path, OuterState &state, const Layout &layout, const std::vector<Parameter> &parameters,
                   std::uint64_t &revision);

}  // namespace pccl::train
