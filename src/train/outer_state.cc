// See train/outer_state.h.
#include "train/outer_state.h"

#include <xxhash.h>

namespace pccl::train {
namespace {

std::size_t buffers(const Buffers &which) {
    return std::size_t{1} + (which.momentum ? 1 : 0) + (which.average ? 2 : 0) + (which.overlay ? 2 : 0) +
           (which.exchange ? 4 : 0);
}

}  // namespace

std::size_t OuterState::bytes(const Layout &layout, const Buffers &which) {
    return (layout.size * buffers(which) + (which.exchange ? 2 * kHeaderFloats : 0)) * sizeof(float);
}

Outcome OuterState::open(const pcclTrainerConfig_t &config, std::string state_file, const Layout &layout, const Buffers &which) {
    const std::size_t needed = bytes(layout, which);
    if (config.state_buffer)
        PCCL_TRAIN_TRY(memory_.use(config.state_buffer, config.state_buffer_bytes, needed));
    else if (!state_file.empty())
        PCCL_TRAIN_TRY(memory_.map(state_file, needed));
    else
        PCCL_TRAIN_TRY(memory_.allocate(needed));
    size = layout.size;
    parameters = memory_.take(size);
    if (which.momentum) momentum = memory_.take(size);
    if (which.average) {
        pseudo_gradient = memory_.take(size);
        average = memory_.take(size);
    }
    if (which.overlay) {
        start = memory_.take(size);
        overlay_momentum = memory_.take(size);
    }
    if (which.exchange) {
        outgoing = memory_.take(size + kHeaderFloats);
        incoming = memory_.take(size + kHeaderFloats);
        sum = reinterpret_cast<double *>(memory_.take(2 * size));
    }
    return {};
}

std::uint64_t OuterState::digest() const {
    std::uint64_t hash = XXH3_64bits(&counters, sizeof counters);
    hash = XXH3_64bits_withSeed(parameters, size * sizeof(float), hash);
    if (momentum) hash = XXH3_64bits_withSeed(momentum, size * sizeof(float), hash);
    return hash;
}

}  // namespace pccl::train
