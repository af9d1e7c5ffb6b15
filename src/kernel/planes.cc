// split_planes and join_planes use vectors for elements of 2 and 4 bytes. Plain loops over tiles process elements of 8 bytes
// and the rest after the vectors.
#include "kernel/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/planes.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "kernel/planes.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Bytes = hn::ScalableTag<std::uint8_t>;

/// Elements `from` to `count`.
template <std::size_t kPlanes>
HWY_INLINE void split_rest(std::uint8_t *out, const std::uint8_t *in, std::size_t from, std::size_t count) {
    for (std::size_t i = from; i < count; ++i)
        for (std::size_t p = 0; p < kPlanes; ++p)
            out[p * count + i] = in[i * kPlanes + p];
}

template <std::size_t kPlanes>
HWY_INLINE void join_rest(std::uint8_t *out, const std::uint8_t *in, std::size_t from, std::size_t count) {
    for (std::size_t i = from; i < count; ++i)
        for (std::size_t p = 0; p < kPlanes; ++p)
            out[i * kPlanes + p] = in[p * count + i];
}

HWY_NOINLINE void split_2(std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    const Bytes d;
    const std::size_t lanes = hn::Lanes(d);
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        hn::Vec<Bytes> a, b;
        hn::LoadInterleaved2(d, in + 2 * i, a, b);
        hn::StoreU(a, d, out + i);
        hn::StoreU(b, d, out + count + i);
    }
    split_rest<2>(out, in, i, count);
}

HWY_NOINLINE void join_2(std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    const Bytes d;
    const std::size_t lanes = hn::Lanes(d);
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes)
        hn::StoreInterleaved2(hn::LoadU(d, in + i), hn::LoadU(d, in + count + i), d, out + 2 * i);
    join_rest<2>(out, in, i, count);
}

HWY_NOINLINE void split_4(std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    const Bytes d;
    const std::size_t lanes = hn::Lanes(d);
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        hn::Vec<Bytes> a, b, c, e;
        hn::LoadInterleaved4(d, in + 4 * i, a, b, c, e);
        hn::StoreU(a, d, out + i);
        hn::StoreU(b, d, out + count + i);
        hn::StoreU(c, d, out + 2 * count + i);
        hn::StoreU(e, d, out + 3 * count + i);
    }
    split_rest<4>(out, in, i, count);
}

HWY_NOINLINE void join_4(std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    const Bytes d;
    const std::size_t lanes = hn::Lanes(d);
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        hn::StoreInterleaved4(hn::LoadU(d, in + i), hn::LoadU(d, in + count + i), hn::LoadU(d, in + 2 * count + i),
                              hn::LoadU(d, in + 3 * count + i), d, out + 4 * i);
    }
    join_rest<4>(out, in, i, count);
}

void split_here(std::uint8_t *out, const std::uint8_t *in, std::size_t count, unsigned planes) {
    if (planes == 2)
        split_2(out, in, count);
    else if (planes == 4)
        split_4(out, in, count);
    else
        split_rest<8>(out, in, 0, count);
}

void join_here(std::uint8_t *out, const std::uint8_t *in, std::size_t count, unsigned planes) {
    if (planes == 2)
        join_2(out, in, count);
    else if (planes == 4)
        join_4(out, in, count);
    else
        join_rest<8>(out, in, 0, count);
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pccl::kernel {

HWY_EXPORT(split_here);
HWY_EXPORT(join_here);

namespace {

void copy_rest(void *out, const void *in, std::size_t bytes, unsigned planes) {
    const std::size_t whole = bytes / planes * planes;
    if (whole < bytes)
        std::memcpy(static_cast<std::uint8_t *>(out) + whole, static_cast<const std::uint8_t *>(in) + whole, bytes - whole);
}

}  // namespace

void split_planes(void *out, const void *in, std::size_t bytes, unsigned planes) {
    HWY_DYNAMIC_DISPATCH(split_here)
    (static_cast<std::uint8_t *>(out), static_cast<const std::uint8_t *>(in), bytes / planes, planes);
    copy_rest(out, in, bytes, planes);
}

void join_planes(void *out, const void *in, std::size_t bytes, unsigned planes) {
    HWY_DYNAMIC_DISPATCH(join_here)
    (static_cast<std::uint8_t *>(out), static_cast<const std::uint8_t *>(in), bytes / planes, planes);
    copy_rest(out, in, bytes, planes);
}

}  // namespace pccl::kernel
#endif
