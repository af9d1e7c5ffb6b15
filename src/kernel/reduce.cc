// combine, finish and widen: each chooses the instruction set at run time and then switches over types.
#include "kernel/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/reduce.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/float_mode.h"
#include "kernel/combine-inl.h"
#include "kernel/divide-inl.h"
#include "kernel/half-inl.h"
#include "kernel/lanes-inl.h"
#include "kernel/reduce.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

void combine_here(const Combine &how, void *out, const void *a, const void *b, std::size_t count) {
    combine_any(how, out, a, b, count);
}

template <class H> void narrow_halves(void *out, const void *in, std::size_t count) {
    map(Halves(), Floats(), out, in, count, [](auto v) HWY_ATTR { return H::narrow(v); });
}

template <class H> void average_halves(void *out, const void *in, std::size_t count, std::uint32_t divisor) {
    const auto by = static_cast<float>(divisor);
    map(Halves(), Floats(), out, in, count, [by](auto v) HWY_ATTR { return H::narrow(hn::Div(v, hn::Set(Floats(), by))); });
}

template <class H> void widen_halves(void *out, const void *in, std::size_t count) {
    map(Floats(), Halves(), out, in, count, [](auto v) HWY_ATTR { return H::widen(v); });
}

void average_here(Type type, void *out, const void *in, std::size_t count, std::uint32_t divisor) {
    switch (type) {
    case Type::u8: return divide_integers<std::uint8_t>(out, in, count, divisor);
    case Type::i8: return divide_integers<std::int8_t>(out, in, count, divisor);
    case Type::i16: return divide_integers<std::int16_t>(out, in, count, divisor);
    case Type::u16: return divide_integers<std::uint16_t>(out, in, count, divisor);
    case Type::u32: return divide_integers<std::uint32_t>(out, in, count, divisor);
    case Type::i32: return divide_integers<std::int32_t>(out, in, count, divisor);
    case Type::u64: return divide_words<std::uint64_t>(out, in, count, divisor);
    case Type::i64: return divide_words<std::int64_t>(out, in, count, divisor);
    case Type::f16: return average_halves<Float16>(out, in, count, divisor);
    case Type::bf16: return average_halves<BFloat16>(out, in, count, divisor);
    case Type::f32: return divide_floats<float>(out, in, count, divisor);
    case Type::f64: return divide_floats<double>(out, in, count, divisor);
    case Type::i4:
    case Type::u4:
    case Type::u2: break;  // not operand types
    }
}

void narrow_here(Type type, void *out, const void *in, std::size_t count) {
    type == Type::f16 ? narrow_halves<Float16>(out, in, count) : narrow_halves<BFloat16>(out, in, count);
}

void widen_here(Type type, void *out, const void *in, std::size_t count) {
    type == Type::f16 ? widen_halves<Float16>(out, in, count) : widen_halves<BFloat16>(out, in, count);
}

const char *target_name_here() { return hwy::TargetName(HWY_TARGET); }

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pccl::kernel {

HWY_EXPORT(combine_here);
HWY_EXPORT(average_here);
HWY_EXPORT(narrow_here);
HWY_EXPORT(widen_here);
HWY_EXPORT(target_name_here);

namespace {

void copy(Type type, void *out, const void *in, std::size_t count) {
    if (out != in && count != 0) std::memmove(out, in, count * size_of(type));
}

}  // namespace

void combine(const Combine &how, void *out, const void *a, const void *b, std::size_t count) {
    const FloatMode mode;
    HWY_DYNAMIC_DISPATCH(combine_here)(how, out, a, b, count);
}

void finish(Type type, Op op, void *out, const void *in, std::size_t count, std::uint32_t divisor) {
    const FloatMode mode;
    if (op == Op::avg)
        HWY_DYNAMIC_DISPATCH(average_here)(type, out, in, count, divisor == 0 ? 1 : divisor);
    else if (accumulator(type, op) != type)
        HWY_DYNAMIC_DISPATCH(narrow_here)(type, out, in, count);
    else
        copy(type, out, in, count);
}

void widen(Type type, Op op, void *out, const void *in, std::size_t count) {
    const FloatMode mode;
    if (accumulator(type, op) != type)
        HWY_DYNAMIC_DISPATCH(widen_here)(type, out, in, count);
    else
        copy(type, out, in, count);
}

const char *target_name() { return HWY_DYNAMIC_DISPATCH(target_name_here)(); }

}  // namespace pccl::kernel
#endif
