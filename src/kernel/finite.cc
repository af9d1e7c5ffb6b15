// See kernel/finite.h.
#include "kernel/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/finite.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstring>

#include "kernel/finite.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// The first word in which all `exponent` bits are set.
template <class Word> std::size_t find(const std::uint8_t *data, std::size_t count, Word exponent) {
    std::size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
    const hn::ScalableTag<Word> words;
    const hn::ScalableTag<std::uint8_t> bytes;
    const auto all = hn::Set(words, exponent);
    const std::size_t lanes = hn::Lanes(words), step = 4 * lanes;
    const auto at = [&](std::size_t i)
                        HWY_ATTR { return hn::And(hn::BitCast(words, hn::LoadU(bytes, data + i * sizeof(Word))), all); };
    const auto is = [&](std::size_t i) HWY_ATTR { return hn::Eq(at(i), all); };
    for (; i + step <= count; i += step) {
        const auto low = hn::Or(is(i), is(i + lanes)), high = hn::Or(is(i + 2 * lanes), is(i + 3 * lanes));
        if (!hn::AllFalse(words, hn::Or(low, high))) break;
    }
#endif
    for (; i < count; ++i) {
        Word word = 0;
        std::memcpy(&word, data + i * sizeof word, sizeof word);
        if ((word & exponent) == exponent) return i;
    }
    return count;
}

std::size_t first_not_finite_here(Type type, const std::uint8_t *data, std::size_t count) {
    switch (type) {
    case Type::f16: return find<std::uint16_t>(data, count, 0x7C00);
    case Type::bf16: return find<std::uint16_t>(data, count, 0x7F80);
    case Type::f32: return find<std::uint32_t>(data, count, 0x7F800000);
    case Type::f64: return find<std::uint64_t>(data, count, 0x7FF0000000000000);
    default: return count;
    }
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pccl::kernel {

HWY_EXPORT(first_not_finite_here);

std::size_t first_not_finite(Type type, const void *data, std::size_t count) {
    return HWY_DYNAMIC_DISPATCH(first_not_finite_here)(type, static_cast<const std::uint8_t *>(data), count);
}

}  // namespace pccl::kernel
#endif
