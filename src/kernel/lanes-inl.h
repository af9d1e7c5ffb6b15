// Loops over buffers of any alignment and any count: first whole vectors, then one vector with a padded copy of the rest.
//
// Step i loads all its inputs before it stores, and steps are in ascending order. So `out` can be an input with the same
// element size, and narrowing in place is safe. No byte outside the buffers is accessed.
#if defined(PCCL_KERNEL_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PCCL_KERNEL_LANES_INL_H_
#undef PCCL_KERNEL_LANES_INL_H_
#else
#define PCCL_KERNEL_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Loads a vector of D at element `i` of `from`.
template <class D> HWY_INLINE hn::Vec<D> load(D d, const void *from, std::size_t i) {
    return hn::LoadU(d, static_cast<const hn::TFromD<D> *>(from) + i);
}

template <class D> HWY_INLINE void store(D d, void *to, std::size_t i, hn::Vec<D> value) {
    hn::StoreU(value, d, static_cast<hn::TFromD<D> *>(to) + i);
}

/// Loads the `count` elements from element `i`, fewer than a vector, followed by zeros.
template <class D> HWY_INLINE hn::Vec<D> load_tail(D d, const void *from, std::size_t i, std::size_t count) {
    using T = hn::TFromD<D>;
    HWY_ALIGN T padded[hn::MaxLanes(D())] = {};
    std::memcpy(padded, static_cast<const std::uint8_t *>(from) + i * sizeof(T), count * sizeof(T));
    return hn::Load(d, padded);
}

template <class D> HWY_INLINE void store_tail(D d, void *to, std::size_t i, std::size_t count, hn::Vec<D> value) {
    using T = hn::TFromD<D>;
    HWY_ALIGN T padded[hn::MaxLanes(D())];
    hn::Store(value, d, padded);
    std::memcpy(static_cast<std::uint8_t *>(to) + i * sizeof(T), padded, count * sizeof(T));
}

/// Converts 32-bit integers to bytes, limited to their range. Highway 1.0 uses four instructions where AVX-512 has one.
template <class D> HWY_INLINE auto saturate_to_bytes(D d, hn::Vec<D> v) {
    static_cast<void>(d);
    using Bytes = hn::Rebind<std::int8_t, D>;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
    if constexpr (hn::MaxLanes(D()) == 16)
        return hn::Vec<Bytes>{_mm512_cvtsepi32_epi8(v.raw)};
    else
#endif
        return hn::DemoteTo(Bytes(), v);
}

/// out[i] = f(in[i]). The tags have equal numbers of lanes.
template <class DOut, class DIn, class F>
HWY_INLINE void map(DOut d_out, DIn d_in, void *out, const void *in, std::size_t count, F f) {
    const std::size_t lanes = hn::Lanes(d_out);
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes)
        store(d_out, out, i, f(load(d_in, in, i)));
    if (i < count) store_tail(d_out, out, i, count - i, f(load_tail(d_in, in, i, count - i)));
}

/// out[i] = f(a[i], b[i]).
template <class DOut, class DA, class DB, class F>
HWY_INLINE void map(DOut d_out, DA d_a, DB d_b, void *out, const void *a, const void *b, std::size_t count, F f) {
    const std::size_t lanes = hn::Lanes(d_out);
    std::size_t i = 0;
    for (; i + 2 * lanes <= count; i += 2 * lanes) {
        store(d_out, out, i, f(load(d_a, a, i), load(d_b, b, i)));
        store(d_out, out, i + lanes, f(load(d_a, a, i + lanes), load(d_b, b, i + lanes)));
    }
    for (; i + lanes <= count; i += lanes)
        store(d_out, out, i, f(load(d_a, a, i), load(d_b, b, i)));
    if (i < count) {
        const std::size_t rest = count - i;
        store_tail(d_out, out, i, rest, f(load_tail(d_a, a, i, rest), load_tail(d_b, b, i, rest)));
    }
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
