// Implements the element-wise operators for every type. reduce.h has their rules.
#if defined(PCCL_KERNEL_COMBINE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PCCL_KERNEL_COMBINE_INL_H_
#undef PCCL_KERNEL_COMBINE_INL_H_
#else
#define PCCL_KERNEL_COMBINE_INL_H_
#endif

#include <type_traits>

#include "kernel/half-inl.h"
#include "kernel/reduce.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

template <class D> inline constexpr bool kIsFloat = std::is_floating_point_v<hn::TFromD<D>>;

struct Sum {
    static constexpr bool kWide = true;      ///< 16-bit floats are combined in float32
    static constexpr bool kUnsigned = true;  ///< signed integers can be computed as unsigned ones, which wrap

    template <class D> static HWY_INLINE hn::Vec<D> apply(D d, hn::Vec<D> a, hn::Vec<D> b) {
        if constexpr (kIsFloat<D>)
            return canonical(d, hn::Add(a, b));
        else
            return hn::Add(a, b);
    }
};

/// Low bits of the product of unsigned lanes of any width.
template <class D> HWY_INLINE hn::Vec<D> multiply_low(D d, hn::Vec<D> a, hn::Vec<D> b) {
    using T = hn::TFromD<D>;
#if HWY_TARGET == HWY_SCALAR
    return hn::Set(d, static_cast<T>(std::uint64_t{hn::GetLane(a)} * std::uint64_t{hn::GetLane(b)}));
#else
    if constexpr (sizeof(T) == 1) {
        const hn::RepartitionToWide<D> wide;
        const auto low = hn::Set(wide, std::uint16_t{0x00FF});
        const auto wide_a = hn::BitCast(wide, a), wide_b = hn::BitCast(wide, b);
        const auto even = hn::And(hn::Mul(wide_a, wide_b), low);
        const auto odd = hn::Mul(hn::ShiftRight<8>(wide_a), hn::AndNot(low, wide_b));
        return hn::BitCast(d, hn::Or(even, odd));
    } else if constexpr (sizeof(T) == 8 && !(HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3)) {
        const hn::RepartitionToNarrow<D> narrow;
        const auto half_a = hn::BitCast(narrow, a), half_b = hn::BitCast(narrow, b);
        const auto crossed = hn::BitCast(d, hn::Mul(half_a, hn::Shuffle2301(half_b)));
        const auto high = hn::ShiftLeft<32>(hn::Add(crossed, hn::ShiftRight<32>(crossed)));
        return hn::Add(hn::MulEven(half_a, half_b), high);
    } else {
        return hn::Mul(a, b);
    }
#endif
}

struct Prod {
    static constexpr bool kWide = true;
    static constexpr bool kUnsigned = true;

    template <class D> static HWY_INLINE hn::Vec<D> apply(D d, hn::Vec<D> a, hn::Vec<D> b) {
        if constexpr (kIsFloat<D>)
            return canonical(d, hn::Mul(a, b));
        else
            return multiply_low(d, a, b);
    }
};

/// The larger (or smaller) of two floats. Equal floats differ at most in the sign of a zero: the AND of their bits is the
/// positive zero, and the OR is the negative zero.
template <bool kMax, class D> HWY_INLINE hn::Vec<D> extremum(D d, hn::Vec<D> a, hn::Vec<D> b) {
    const auto equal = kMax ? hn::And(a, b) : hn::Or(a, b);
    const auto chosen = hn::IfThenElse(kMax ? hn::Gt(a, b) : hn::Lt(a, b), a, b);
    const auto either = hn::IfThenElse(hn::Eq(a, b), equal, chosen);
    // If either operand is NaN, b was chosen. So only a's NaN can be lost.
    return canonical(d, hn::IfThenElse(hn::IsNaN(a), a, either));
}

struct Max {
    static constexpr bool kWide = false;
    static constexpr bool kUnsigned = false;

    template <class D> static HWY_INLINE hn::Vec<D> apply(D d, hn::Vec<D> a, hn::Vec<D> b) {
        if constexpr (kIsFloat<D>)
            return extremum<true>(d, a, b);
        else
            return hn::Max(a, b);
    }
};

struct Min {
    static constexpr bool kWide = false;
    static constexpr bool kUnsigned = false;

    template <class D> static HWY_INLINE hn::Vec<D> apply(D d, hn::Vec<D> a, hn::Vec<D> b) {
        if constexpr (kIsFloat<D>)
            return extremum<false>(d, a, b);
        else
            return hn::Min(a, b);
    }
};

template <class O, class T> void combine_same(void *out, const void *a, const void *b, std::size_t count) {
    using U =
        typename std::conditional_t<std::is_integral_v<T> && O::kUnsigned, std::make_unsigned<T>, std::type_identity<T>>::type;
    const hn::ScalableTag<U> d;
    map(d, d, d, out, a, b, count, [d](auto x, auto y) HWY_ATTR { return O::apply(d, x, y); });
}

/// Maximum or minimum of 16-bit floats whose infinity is `kInfinity`, computed with integers in the same order.
template <class O, std::uint16_t kInfinity> void combine_ordered(void *out, const void *a, const void *b, std::size_t count) {
    const hn::ScalableTag<std::int16_t> d;
    map(d, d, d, out, a, b, count, [d](auto x, auto y) HWY_ATTR {
        const auto magnitude = hn::Set(d, std::int16_t{0x7FFF});
        const auto infinity = hn::Set(d, std::int16_t{kInfinity});
        const auto order = [magnitude](auto v) HWY_ATTR { return hn::Xor(v, hn::And(hn::ShiftRight<15>(v), magnitude)); };
        const auto chosen = order(O::apply(d, order(x), order(y)));  // order() is its own inverse
        const auto largest = hn::Max(hn::And(x, magnitude), hn::And(y, magnitude));
        const auto quiet = hn::Set(d, std::int16_t{kInfinity == 0x7C00 ? 0x7E00 : 0x7FC0});
        return hn::IfThenElse(hn::Gt(largest, infinity), quiet, chosen);
    });
}

/// Sums and products of 16-bit floats, in float32. Each operand is an input or already widened.
template <class O, class H> void combine_wide(const Combine &how, void *out, const void *a, const void *b, std::size_t count) {
    const Floats d;
    const Halves h;
    if (how.a_is_input && how.b_is_input)
        map(d, h, h, out, a, b, count, [d](auto x, auto y) HWY_ATTR { return O::apply(d, H::widen(x), H::widen(y)); });
    else if (how.a_is_input)
        map(d, h, d, out, a, b, count, [d](auto x, auto y) HWY_ATTR { return O::apply(d, H::widen(x), y); });
    else if (how.b_is_input)
        map(d, d, h, out, a, b, count, [d](auto x, auto y) HWY_ATTR { return O::apply(d, x, H::widen(y)); });
    else
        map(d, d, d, out, a, b, count, [d](auto x, auto y) HWY_ATTR { return O::apply(d, x, y); });
}

template <class O> void combine_by(const Combine &how, void *out, const void *a, const void *b, std::size_t count) {
    switch (how.type) {
    case Type::u8: return combine_same<O, std::uint8_t>(out, a, b, count);
    case Type::i8: return combine_same<O, std::int8_t>(out, a, b, count);
    case Type::i16: return combine_same<O, std::int16_t>(out, a, b, count);
    case Type::u16: return combine_same<O, std::uint16_t>(out, a, b, count);
    case Type::u32: return combine_same<O, std::uint32_t>(out, a, b, count);
    case Type::i32: return combine_same<O, std::int32_t>(out, a, b, count);
    case Type::u64: return combine_same<O, std::uint64_t>(out, a, b, count);
    case Type::i64: return combine_same<O, std::int64_t>(out, a, b, count);
    case Type::f16:
        if constexpr (O::kWide)
            return combine_wide<O, Float16>(how, out, a, b, count);
        else
            return combine_ordered<O, 0x7C00>(out, a, b, count);
    case Type::bf16:
        if constexpr (O::kWide)
            return combine_wide<O, BFloat16>(how, out, a, b, count);
        else
            return combine_ordered<O, 0x7F80>(out, a, b, count);
    case Type::f32: return combine_same<O, float>(out, a, b, count);
    case Type::f64: return combine_same<O, double>(out, a, b, count);
    case Type::i4:
    case Type::u4:
    case Type::u2: break;  // not operand types
    }
}

HWY_INLINE void combine_any(const Combine &how, void *out, const void *a, const void *b, std::size_t count) {
    switch (how.op) {
    case Op::sum:
    case Op::avg: return combine_by<Sum>(how, out, a, b, count);
    case Op::prod: return combine_by<Prod>(how, out, a, b, count);
    case Op::max: return combine_by<Max>(how, out, a, b, count);
    case Op::min: return combine_by<Min>(how, out, a, b, count);
    }
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
