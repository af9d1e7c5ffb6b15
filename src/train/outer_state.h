// The outer state of a trainer: flat buffers in one block of memory, the counters that all peers share, a digest of them, and files of it.
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
    std::uint64_t held = 0;      ///< an average waits to be applied
    double usual_move = 0.0;     ///< of the outer parameters per step: a running mean of norms (gap-aware penalty)
    double last_move = 0.0;      ///< norm of the last
    std::uint64_t age = 0;       ///< inner steps in the model of this peer (gossip)
    std::uint64_t reserved[2]{};
};
constexpr std::size_t kCounterWords = sizeof(Counters) / sizeof(std::uint64_t);

/// Which buffers a method needs. Each is `layout.size` floats.
struct Buffers {
    bool momentum = false;
    bool average = false;  ///< pseudo-gradient and average
    bool overlay = false;  ///< start points and the overlay's momentum
    bool exchange = false;  ///< models on their way out and in, and a sum of models
};

constexpr std::size_t kHeaderFloats = 16;  ///< before a model in a message

class OuterState {
public:
    static std::size_t bytes(const Layout &layout, const Buffers &which);
    /// Takes its buffers from where the configuration says.
    Outcome open(const pcclTrainerConfig_t &config, std::string state_file, const Layout &layout, const Buffers &which);

    /// A hash of the parameters, the momentum and the counters.
    std::uint64_t digest() const;

    float *parameters = nullptr;
    float *momentum = nullptr;         ///< or NULL
    float *pseudo_gradient = nullptr;  ///< of this peer
    float *average = nullptr;          ///< of all
    float *start = nullptr;            ///< what the pseudo-gradient is measured from, where that is not `parameters`
    float *overlay_momentum = nullptr;
    float *outgoing = nullptr;  ///< kHeaderFloats more than a model
    float *incoming = nullptr;  ///< likewise
    double *sum = nullptr;
    Counters counters;
    std::size_t size = 0;

private:
    Memory memory_;
};

/// Writes parameters, momentum and counters, each tensor by its name: whatever the layout. The file is complete or untouched.
Outcome save_state(const std::string &path, const OuterState &state, const Layout &layout, const std::vector<Parameter> &parameters,
                   std::uint64_t revision);
/// Reads what save_state wrote. Changes nothing unless all is well.
Outcome load_state(const std::string &path, OuterState &state, const Layout &layout, const std::vector<Parameter> &parameters,
                   std::uint64_t &revision);

}  // namespace pccl::train
