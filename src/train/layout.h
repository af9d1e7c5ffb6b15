// Where each parameter lies in the flat outer state.
//
// The flat state is a row of fragments, each padded so that it begins at a multiple of 64 bytes and has at least one spare element behind
// it (for a weight that travels with it). Spare elements are zero in all that is shared. Pure.
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

/// A run of one parameter's elements and where it lies in the flat state.
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

/// Which element of which parameter is the `element`-th of a fragment; there is one.
struct Place {
    std::size_t parameter = 0, element = 0;
};
Place place_in(const Fragment &fragment, std::size_t element);

struct Layout {
    std::vector<Fragment> fragments;
    std::size_t size = 0;  ///< elements of the flat state, spare ones included
};

/// Copies and checks what a caller describes.
Outcome read_parameters(const pcclTensorInfo_t *infos, std::size_t count, std::vector<Parameter> &out);

/// Every element belongs to exactly one of `fragments` fragments. Fails if there are more fragments than there is to share out.
Outcome make_layout(const std::vector<Parameter> &parameters, pcclFragments_t pattern, std::uint32_t fragments, Layout &out);

}  // namespace pccl::train
