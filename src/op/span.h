// A range of elements of a buffer.
#pragma once

#include <cstddef>

namespace pccl::op {

struct Span {
    std::size_t begin = 0;
    std::size_t count = 0;
    friend bool operator==(const Span &, const Span &) = default;
};

}  // namespace pccl::op
