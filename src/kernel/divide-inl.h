// Divides every element by one divisor: floats with the IEEE operation, integers with a multiplication and shifts (Granlund and
// Montgomery 1994, fig. 4.1 and 5.2), truncating toward zero. The divisor is at least 1.
#if defined(PCCL_KERNEL_DIVIDE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PCCL_KERNEL_DIVIDE_INL_H_
#undef PCCL_KERNEL_DIVIDE_INL_H_
#else
#define PCCL_KERNEL_DIVIDE_INL_H_
#endif

#include <bit>
#include <limits>
#include <type_traits>

#include "kernel/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

__extension__ typedef unsigned __int128 Uint128;

/// n / divisor == (t + ((n - t) >> shift1)) >> shift2, where t is the high half of multiplier * n, for every n of the unsigned
/// type U.
template <class U> struct Reciprocal {
    U multiplier;
    int shift1;
    int shift2;

    explicit Reciprocal(std::uint32_t divisor) {
        const int log = std::bit_width(divisor - 1);  // rounded up
        const Uint128 excess = (Uint128{1} << log) - divisor;
        multiplier = static_cast<U>((excess << std::numeric_limits<U>::digits) / divisor + 1);
        shift1 = log > 1 ? 1 : log;
        shift2 = log > 1 ? log - 1 : 0;
    }
};

template <class D> HWY_INLINE hn::Vec<D> multiply_high(D d, hn::Vec<D> a, hn::Vec<D> b) {
    using T = hn::TFromD<D>;
#if HWY_TARGET == HWY_SCALAR
    return hn::Set(d, static_cast<T>((std::uint64_t{hn::GetLane(a)} * std::uint64_t{hn::GetLane(b)}) >> (8 * sizeof(T))));
#else
    if constexpr (sizeof(T) == 2) {
        return hn::MulHigh(a, b);
    } else {
        const hn::RepartitionToWide<D> wide;
        const auto odd_a = hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a)));
        const auto even = hn::ShiftRight<32>(hn::MulEven(a, b));
        return hn::OddEven(hn::BitCast(d, hn::MulEven(odd_a, b)), hn::BitCast(d, even));
    }
#endif
}

template <class D> HWY_INLINE hn::Vec<D> divide(D d, hn::Vec<D> n, const Reciprocal<hn::TFromD<D>> &by) {
    const auto t = multiply_high(d, n, hn::Set(d, by.multiplier));  // b has the same value in all lanes
    return hn::ShiftRightSame(hn::Add(t, hn::ShiftRightSame(hn::Sub(n, t), by.shift1)), by.shift2);
}

/// Signed: divides the magnitude, then restores the sign.
template <class D, class U> HWY_INLINE hn::Vec<D> divide_signed(D d, hn::Vec<D> n, const Reciprocal<U> &by) {
    const hn::RebindToUnsigned<D> unsigned_d;
    const auto sign = hn::BitCast(unsigned_d, hn::BroadcastSignBit(n));
    const auto magnitude = hn::Sub(hn::Xor(hn::BitCast(unsigned_d, n), sign), sign);
    return hn::BitCast(d, hn::Sub(hn::Xor(divide(unsigned_d, magnitude, by), sign), sign));
}

template <class T> void divide_integers(void *out, const void *in, std::size_t count, std::uint32_t divisor) {
    using U = std::make_unsigned_t<T>;
    if (divisor > std::numeric_limits<U>::max()) {  // every magnitude is smaller
        if (count != 0) std::memset(out, 0, count * sizeof(T));
        return;
    }
    const hn::ScalableTag<T> d;
    if constexpr (sizeof(T) == 1) {
        const hn::ScalableTag<std::int16_t> wide;
        const hn::Rebind<T, decltype(wide)> narrow;
        const Reciprocal<std::uint16_t> by(divisor);
        map(narrow, narrow, out, in, count,
            [=](auto v) HWY_ATTR { return hn::DemoteTo(narrow, divide_signed(wide, hn::PromoteTo(wide, v), by)); });
    } else if constexpr (std::is_signed_v<T>) {
        const Reciprocal<U> by(divisor);
        map(d, d, out, in, count, [d, by](auto v) HWY_ATTR { return divide_signed(d, v, by); });
    } else {
        const Reciprocal<U> by(divisor);
        map(d, d, out, in, count, [d, by](auto v) HWY_ATTR { return divide(d, v, by); });
    }
}

/// For 64 bits: no instruction set multiplies vectors of 64-bit integers to 128 bits.
template <class T> void divide_words(void *out, const void *in, std::size_t count, std::uint32_t divisor) {
    const Reciprocal<std::uint64_t> by(divisor);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t n = 0;
        std::memcpy(&n, static_cast<const std::uint8_t *>(in) + i * 8, 8);
        const std::uint64_t sign = std::is_signed_v<T> ? 0 - (n >> 63) : 0;
        n = (n ^ sign) - sign;
        const auto t = static_cast<std::uint64_t>((Uint128{by.multiplier} * n) >> 64);
        n = (t + ((n - t) >> by.shift1)) >> by.shift2;
        n = (n ^ sign) - sign;
        std::memcpy(static_cast<std::uint8_t *>(out) + i * 8, &n, 8);
    }
}

template <class T> void divide_floats(void *out, const void *in, std::size_t count, std::uint32_t divisor) {
    const hn::ScalableTag<T> d;
    const auto by = static_cast<T>(divisor);
    if (std::has_single_bit(divisor)) {  // the same quotient, also rounded once, and several times as fast
        const T factor = 1 / by;
        return map(d, d, out, in, count, [d, factor](auto v) HWY_ATTR { return canonical(d, hn::Mul(v, hn::Set(d, factor))); });
    }
    map(d, d, out, in, count, [d, by](auto v) HWY_ATTR { return canonical(d, hn::Div(v, hn::Set(d, by))); });
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
