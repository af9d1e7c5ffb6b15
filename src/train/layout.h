// The position of each parameter in the flat outer state.
//
// The flat state is a sequence of fragments. Each is padded, so that it begins at a multiple of 64 bytes and at least one spare
// element follows it (for a weight that is sent with it). Spare elements are zero in all shared data. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <pccl/train.h>

#include "train/outcome.h"

namespace pccl::train {

/// One of the caller's tensors.
struct Parameter {
    std::string name;
    void *data = nullptr;
    std::size_t count = 0;
    pcclDataType_t type = pcclFloat;

    /// The address of element `i`.
    void *at(std::size_t i) const;
};

/// A run of one parameter's elements and its position in the flat state.
struct Piece {
    std::size_t parameter = 0;
    std::size_t first = 0;  ///< element of the parameter
    std::size_t count = 0;
    std::size_t flat = 0;  ///< element of the flat state
};

struct Fragment {
    std::size_t first = 0;  ///< in the flat state
    std::size_t count = 0;  ///< without the spare elements
    std::vector<Piece> pieces;
};

/// An element of a parameter.
struct Place {
    std::size_t parameter = 0, element = 0;
};
/// The place of the `element`-th element of a fragment. `element` must be below the fragment's count.
Place place_in(const Fragment &fragment, std::size_t element);

struct Layout {
    std::vector<Fragment> fragments;
    std::size_t size = 0;  ///< elements of the flat state, spare ones included
};

/// Copies and checks the caller's description of the parameters.
Outcome read_parameters(const pcclTensorInfo_t *infos, std::size_t count, std::vector<Parameter> &out);

/// Assigns every element to exactly one of `fragments` fragments. Fails if there are more fragments than units to distribute.
Outcome make_layout(const std::vector<Parameter> &parameters, pcclFragments_t pattern, std::uint32_t fragments, Layout &out);

}  // namespace pccl::train
