// Converts float16 and bfloat16 to float32 and back, with the same bits on every instruction set: round to nearest even, correct
// infinities, subnormals and signed zeros, and every NaN narrowed to the one quiet NaN. Highway 1.0.3's own demotions truncate or
// lose NaN on some targets.
#if defined(PCCL_KERNEL_HALF_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PCCL_KERNEL_HALF_INL_H_
#undef PCCL_KERNEL_HALF_INL_H_
#else
#define PCCL_KERNEL_HALF_INL_H_
#endif

#include "kernel/lanes-inl.h"
#include "kernel/vocabulary.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

using Floats = hn::ScalableTag<float>;
using FloatBits = hn::RebindToUnsigned<Floats>;
using FloatInts = hn::RebindToSigned<Floats>;
using Halves = hn::Rebind<std::uint16_t, Floats>;  ///< as many lanes as a vector of floats

/// Replaces every NaN in v by the positive quiet NaN without payload. The sum of two NaNs depends on the machine, and this result
/// does not.
template <class D> HWY_INLINE hn::Vec<D> canonical(D d, hn::Vec<D> v) {
    constexpr bool kDouble = sizeof(hn::TFromD<D>) == 8;
    using Bits = hn::TFromD<hn::RebindToUnsigned<D>>;
    const hn::RebindToUnsigned<D> bits;
    const auto quiet = hn::Set(bits, static_cast<Bits>(kDouble ? 0x7FF8000000000000 : 0x7FC00000));
    return hn::IfThenElse(hn::IsNaN(v), hn::BitCast(d, quiet), v);
}

/// The low half of each 32-bit lane, whose high half is zero.
HWY_INLINE hn::Vec<Halves> low_halves(hn::Vec<FloatBits> v) { return hn::DemoteTo(Halves(), hn::BitCast(FloatInts(), v)); }

struct BFloat16 {
    static HWY_INLINE hn::Vec<Floats> widen(hn::Vec<Halves> v) {
        return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(FloatBits(), v)));
    }

    static HWY_INLINE hn::Vec<Halves> narrow(hn::Vec<Floats> v) {
        const FloatBits d;
        const auto bits = hn::BitCast(d, canonical(Floats(), v));
        const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
        // The low bits of the quiet NaN are zero, so it is not rounded up.
        return low_halves(hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7FFFu)))));
    }
};

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)

struct Float16 {
    using Native = hn::Rebind<hwy::float16_t, Floats>;

    static HWY_INLINE hn::Vec<Floats> widen(hn::Vec<Halves> v) { return hn::PromoteTo(Floats(), hn::BitCast(Native(), v)); }

    static HWY_INLINE hn::Vec<Halves> narrow(hn::Vec<Floats> v) {
        return hn::BitCast(Halves(), hn::DemoteTo(Native(), canonical(Floats(), v)));
    }
};

#else

struct Float16 {
    static HWY_INLINE hn::Vec<Floats> widen(hn::Vec<Halves> v) {
        const FloatBits d;
        const auto all = hn::PromoteTo(d, v);
        const auto sign = hn::ShiftLeft<16>(hn::And(all, hn::Set(d, 0x8000u)));
        const auto bits = hn::And(all, hn::Set(d, 0x7FFFu));
        // A subnormal is its mantissa times 2^-24.
        const auto subnormal = hn::Mul(hn::ConvertTo(Floats(), hn::BitCast(FloatInts(), bits)), hn::Set(Floats(), 0x1p-24f));
        const auto normal = hn::Add(hn::ShiftLeft<13>(bits), hn::Set(d, (127u - 15u) << 23));
        auto wide = hn::IfThenElse(hn::Lt(bits, hn::Set(d, 0x0400u)), hn::BitCast(d, subnormal), normal);
        const auto special = hn::Or(hn::ShiftLeft<13>(bits), hn::Set(d, 0x7F800000u));
        wide = hn::IfThenElse(hn::Gt(bits, hn::Set(d, 0x7BFFu)), special, wide);
        const auto quiet = hn::IfThenElseZero(hn::Gt(bits, hn::Set(d, 0x7C00u)), hn::Set(d, 0x00400000u));
        return hn::BitCast(Floats(), hn::Or(sign, hn::Or(quiet, wide)));
    }

    static HWY_INLINE hn::Vec<Halves> narrow(hn::Vec<Floats> v) {
        const FloatBits d;
        const auto all = hn::BitCast(d, canonical(Floats(), v));
        const auto sign = hn::And(all, hn::Set(d, 0x80000000u));
        const auto bits = hn::Xor(all, sign);
        // Adding 0.5 rounds a value below 2^-14 to a multiple of 2^-24, which is then in the low bits.
        const auto half = hn::Set(Floats(), 0.5f);
        const auto subnormal = hn::Sub(hn::BitCast(d, hn::Add(hn::BitCast(Floats(), bits), half)), hn::BitCast(d, half));
        const auto odd = hn::And(hn::ShiftRight<13>(bits), hn::Set(d, 1u));
        const auto rebased = hn::Sub(bits, hn::Set(d, ((127u - 15u) << 23) - 0xFFFu));
        const auto normal = hn::ShiftRight<13>(hn::Add(rebased, odd));
        auto narrow = hn::IfThenElse(hn::Lt(bits, hn::Set(d, 0x38800000u)), subnormal, normal);
        narrow = hn::IfThenElse(hn::Gt(bits, hn::Set(d, 0x477FFFFFu)), hn::Set(d, 0x7C00u), narrow);
        narrow = hn::IfThenElse(hn::Gt(bits, hn::Set(d, 0x7F800000u)), hn::Set(d, 0x7E00u), narrow);
        return low_halves(hn::Or(narrow, hn::ShiftRight<16>(sign)));
    }
};

#endif

/// Converts whole buffers of f16 or bf16 to float32, and back.
HWY_INLINE void widen_floats(Type from, void *out, const void *in, std::size_t count) {
    if (from == Type::f16)
        map(Floats(), Halves(), out, in, count, [](auto v) HWY_ATTR { return Float16::widen(v); });
    else
        map(Floats(), Halves(), out, in, count, [](auto v) HWY_ATTR { return BFloat16::widen(v); });
}

HWY_INLINE void narrow_floats(Type to, void *out, const void *in, std::size_t count) {
    if (to == Type::f16)
        map(Halves(), Floats(), out, in, count, [](auto v) HWY_ATTR { return Float16::narrow(v); });
    else
        map(Halves(), Floats(), out, in, count, [](auto v) HWY_ATTR { return BFloat16::narrow(v); });
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
