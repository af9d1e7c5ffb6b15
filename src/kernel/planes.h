// Byte planes: the first bytes of all elements, then the second bytes, and so on. In floating-point data the bytes of exponents
// are similar and the bytes of the last mantissa digits are not. Separate planes compress better.
#pragma once

#include <cstddef>

namespace pccl::kernel {

constexpr bool is_plane_count(unsigned planes) { return planes == 1 || planes == 2 || planes == 4 || planes == 8; }

/// Splits elements of `planes` bytes (2, 4 or 8). The bytes of an incomplete last element follow unchanged. Any alignment;
/// the buffers do not overlap.
void split_planes(void *out, const void *in, std::size_t bytes, unsigned planes);
/// The inverse of split_planes().
void join_planes(void *out, const void *in, std::size_t bytes, unsigned planes);

}  // namespace pccl::kernel
