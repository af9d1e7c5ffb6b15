// See train/vector.h.
#include "train/vector.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "train/vector.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/float_mode.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::train::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// body(tag, i) for every i in steps of the tag's lanes: whole vectors first, then one element at a time.
template <class Body> HWY_INLINE void each(std::size_t count, Body body) {
    const hn::ScalableTag<float> whole;
    const hn::CappedTag<float, 1> single;
    const std::size_t lanes = hn::Lanes(whole);
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes)
        body(whole, i);
    for (; i < count; ++i)
        body(single, i);
}

void subtract_here(const float *a, const float *b, float *out, std::size_t count) {
    each(count,
         [=](auto d, std::size_t i) HWY_ATTR { hn::StoreU(hn::Sub(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, out + i); });
}

void multiply_here(float *x, float by, std::size_t count) {
    each(count, [=](auto d, std::size_t i) HWY_ATTR { hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, by)), d, x + i); });
}

void divide_here(float *x, float by, std::size_t count) {
    each(count, [=](auto d, std::size_t i) HWY_ATTR { hn::StoreU(hn::Div(hn::LoadU(d, x + i), hn::Set(d, by)), d, x + i); });
}

void sgd_here(float *p, const float *g, float rate, std::size_t count) {
    each(count, [=](auto d, std::size_t i) HWY_ATTR {
        hn::StoreU(hn::Sub(hn::LoadU(d, p + i), hn::Mul(hn::Set(d, rate), hn::LoadU(d, g + i))), d, p + i);
    });
}

void heavy_ball_here(float *p, float *v, const float *g, float rate, float momentum, std::size_t count) {
    each(count, [=](auto d, std::size_t i) HWY_ATTR {
        const auto next = hn::Add(hn::Mul(hn::Set(d, momentum), hn::LoadU(d, v + i)), hn::LoadU(d, g + i));
        hn::StoreU(next, d, v + i);
        hn::StoreU(hn::Sub(hn::LoadU(d, p + i), hn::Mul(hn::Set(d, rate), next)), d, p + i);
    });
}

void nesterov_here(float *p, float *v, const float *g, float rate, float momentum, std::size_t count) {
    each(count, [=](auto d, std::size_t i) HWY_ATTR {
        const auto u = hn::Set(d, momentum);
        const auto gradient = hn::LoadU(d, g + i);
        const auto next = hn::Add(hn::Mul(u, hn::LoadU(d, v + i)), gradient);
        hn::StoreU(next, d, v + i);
        const auto step = hn::Mul(hn::Set(d, rate), hn::Add(gradient, hn::Mul(u, next)));
        hn::StoreU(hn::Sub(hn::LoadU(d, p + i), step), d, p + i);
    });
}

/// `moved` receives the change of each p.
void clipped_heavy_ball_here(float *p, float *v, const float *g, float *moved, float rate, float momentum, float divisor,
                             float bound, std::size_t count) {
    each(count, [=](auto d, std::size_t i) HWY_ATTR {
        auto next =
            hn::Add(hn::Mul(hn::Set(d, momentum), hn::LoadU(d, v + i)), hn::Div(hn::LoadU(d, g + i), hn::Set(d, divisor)));
        // Min and Max are not used, because their result for a NaN differs between processors.
        const auto limit = hn::Set(d, bound);
        next = hn::IfThenElse(hn::Gt(next, limit), limit, next);
        next = hn::IfThenElse(hn::Lt(next, hn::Neg(limit)), hn::Neg(limit), next);
        hn::StoreU(next, d, v + i);
        const auto before = hn::LoadU(d, p + i);
        const auto after = hn::Sub(before, hn::Mul(hn::Set(d, rate), next));
        hn::StoreU(after, d, p + i);
        hn::StoreU(hn::Sub(after, before), d, moved + i);
    });
}

void mix_here(float *x, const float *p, float own, std::size_t count) {
    const float others = 1.0F - own;
    each(count, [=](auto d, std::size_t i) HWY_ATTR {
        hn::StoreU(hn::Add(hn::Mul(hn::Set(d, own), hn::LoadU(d, x + i)), hn::Mul(hn::Set(d, others), hn::LoadU(d, p + i))), d,
                   x + i);
    });
}

void overlay_here(float *x, float *q, const float *p, const float *delta, float rate, float momentum, std::size_t count) {
    each(count, [=](auto d, std::size_t i) HWY_ATTR {
        const auto u = hn::Set(d, momentum);
        const auto fresh = hn::LoadU(d, delta + i);
        const auto next = hn::Add(hn::Mul(u, hn::LoadU(d, q + i)), fresh);
        hn::StoreU(next, d, q + i);
        const auto step = hn::Mul(hn::Set(d, rate), hn::Add(fresh, hn::Mul(u, next)));
        hn::StoreU(hn::Sub(hn::LoadU(d, p + i), step), d, x + i);
    });
}

/// The first of `count` elements whose exponent has all bits set; `count` if there is none. It compares integers, so
/// floating-point modes have no effect and nothing traps.
std::size_t first_not_finite_here(const float *x, std::size_t count) {
    const hn::ScalableTag<std::uint32_t> words;
    const auto exponent = hn::Set(words, 0x7F800000U);
    const std::size_t lanes = hn::Lanes(words), step = 4 * lanes;
    const auto load = [&](std::size_t i)
                          HWY_ATTR { return hn::And(hn::BitCast(words, hn::LoadU(hn::ScalableTag<float>(), x + i)), exponent); };
    std::size_t i = 0;
    for (; i + step <= count; i += step) {
        const auto most = hn::Max(hn::Max(load(i), load(i + lanes)), hn::Max(load(i + 2 * lanes), load(i + 3 * lanes)));
        if (!hn::AllFalse(words, hn::Eq(most, exponent))) break;
    }
    for (; i < count; ++i) {
        std::uint32_t word = 0;
        std::memcpy(&word, x + i, sizeof word);
        if ((word & 0x7F800000U) == 0x7F800000U) return i;
    }
    return count;
}

const char *target_here() { return hwy::TargetName(HWY_TARGET); }

}  // namespace pccl::train::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pccl::train {

HWY_EXPORT(subtract_here);
HWY_EXPORT(multiply_here);
HWY_EXPORT(divide_here);
HWY_EXPORT(sgd_here);
HWY_EXPORT(heavy_ball_here);
HWY_EXPORT(nesterov_here);
HWY_EXPORT(clipped_heavy_ball_here);
HWY_EXPORT(mix_here);
HWY_EXPORT(overlay_here);
HWY_EXPORT(first_not_finite_here);
HWY_EXPORT(target_here);

namespace {

constexpr std::size_t kBlock = 1024;  // elements that are converted or summed at a time

float widen_half(std::uint16_t h) {
    const std::uint32_t sign = (h & 0x8000U) << 16U;
    const std::uint32_t exponent = (h >> 10U) & 0x1FU;
    const std::uint32_t fraction = h & 0x3FFU;
    if (exponent == 0x1FU) return std::bit_cast<float>(sign | 0x7F800000U | (fraction << 13U));
    if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112U) << 23U) | (fraction << 13U));
    const float small = static_cast<float>(fraction) * 0x1p-24F;  // exact
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(small));
}

std::uint16_t narrow_half(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16U) & 0x8000U);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U);   // not a number
    if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // rounds to infinity
    if (magnitude < 0x38800000U) {  // below the smallest normal: the sum's last bits are the result, rounded by the processor
        const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
        return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
    }
    const std::uint32_t odd = (magnitude >> 13U) & 1U;
    return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000U + 0xFFFU + odd) >> 13U));
}

float widen_bfloat(std::uint16_t b) { return std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16U); }

std::uint16_t narrow_bfloat(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16U) | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

template <float (*Widen)(std::uint16_t)> void widen_all(const void *from, float *out, std::size_t count) {
    const auto *bytes = static_cast<const std::byte *>(from);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint16_t word = 0;
        std::memcpy(&word, bytes + 2 * i, 2);
        out[i] = Widen(word);
    }
}

template <std::uint16_t (*Narrow)(float)> void narrow_all(const float *from, void *to, std::size_t count) {
    auto *bytes = static_cast<std::byte *>(to);
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t word = Narrow(from[i]);
        std::memcpy(bytes + 2 * i, &word, 2);
    }
}

/// Eight parallel sums, independent of the processor's vector width, which are then added in order.
class SumOfSquares {
public:
    void add(const float *x, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i)
            sums_[i % sums_.size()] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    }
    [[gnu::noinline]] double total() const {  // not inlined, so that it is not moved past the restoration of the caller's mode
        double sum = 0.0;
        for (const double s : sums_)
            sum += s;
        return sum;
    }

private:
    std::array<double, 8> sums_{};
};

}  // namespace

std::size_t parameter_bytes(pcclDataType_t type) {
    switch (type) {
    case pcclFloat: return 4;
    case pcclFloat16:
    case pcclBFloat16: return 2;
    default: return 0;
    }
}

void load(pcclDataType_t type, const void *from, float *out, std::size_t count) {
    const FloatMode mode;
    if (type == pcclFloat16) return widen_all<widen_half>(from, out, count);
    if (type == pcclBFloat16) return widen_all<widen_bfloat>(from, out, count);
    if (count != 0) std::memcpy(out, from, count * sizeof(float));
}

void store(pcclDataType_t type, const float *from, void *to, std::size_t count) {
    const FloatMode mode;
    if (type == pcclFloat16) return narrow_all<narrow_half>(from, to, count);
    if (type == pcclBFloat16) return narrow_all<narrow_bfloat>(from, to, count);
    if (count != 0) std::memcpy(to, from, count * sizeof(float));
}

void difference(pcclDataType_t type, const float *start, const void *end, float *out, std::size_t count) {
    const FloatMode mode;
    if (type == pcclFloat) return HWY_DYNAMIC_DISPATCH(subtract_here)(start, static_cast<const float *>(end), out, count);
    std::array<float, kBlock> held, now;
    std::array<std::uint16_t, kBlock> narrowed;
    for (std::size_t i = 0; i < count; i += kBlock) {
        const std::size_t n = std::min(kBlock, count - i);
        store(type, start + i, narrowed.data(), n);
        load(type, narrowed.data(), held.data(), n);
        load(type, static_cast<const std::byte *>(end) + 2 * i, now.data(), n);
        HWY_DYNAMIC_DISPATCH(subtract_here)(held.data(), now.data(), out + i, n);
    }
}

void multiply(float *x, float by, std::size_t count) {
    const FloatMode mode;
    HWY_DYNAMIC_DISPATCH(multiply_here)(x, by, count);
}
void divide(float *x, float by, std::size_t count) {
    const FloatMode mode;
    HWY_DYNAMIC_DISPATCH(divide_here)(x, by, count);
}

void sgd(float *p, const float *g, float rate, std::size_t count) {
    const FloatMode mode;
    HWY_DYNAMIC_DISPATCH(sgd_here)(p, g, rate, count);
}

void heavy_ball(float *p, float *v, const float *g, float rate, float momentum, std::size_t count) {
    const FloatMode mode;
    HWY_DYNAMIC_DISPATCH(heavy_ball_here)(p, v, g, rate, momentum, count);
}

void nesterov(float *p, float *v, const float *g, float rate, float momentum, std::size_t count) {
    const FloatMode mode;
    HWY_DYNAMIC_DISPATCH(nesterov_here)(p, v, g, rate, momentum, count);
}

double clipped_heavy_ball(float *p, float *v, const float *g, float rate, float momentum, float divisor, float bound,
                          std::size_t count) {
    const FloatMode mode;
    if (bound == 0.0F) bound = std::bit_cast<float>(0x7F800000U);  // infinity
    SumOfSquares moved;
    std::array<float, kBlock> by;
    for (std::size_t i = 0; i < count; i += kBlock) {
        const std::size_t n = std::min(kBlock, count - i);
        HWY_DYNAMIC_DISPATCH(clipped_heavy_ball_here)(p + i, v + i, g + i, by.data(), rate, momentum, divisor, bound, n);
        moved.add(by.data(), n);
    }
    return moved.total();
}

double squared_distance(const float *a, const float *b, std::size_t count) {
    const FloatMode mode;
    SumOfSquares sum;
    std::array<float, kBlock> between;
    for (std::size_t i = 0; i < count; i += kBlock) {
        const std::size_t n = std::min(kBlock, count - i);
        HWY_DYNAMIC_DISPATCH(subtract_here)(a + i, b + i, between.data(), n);
        sum.add(between.data(), n);
    }
    return sum.total();
}

void mix(float *x, const float *p, float own, std::size_t count) {
    const FloatMode mode;
    HWY_DYNAMIC_DISPATCH(mix_here)(x, p, own, count);
}

void overlay(float *x, float *q, const float *p, const float *d, float rate, float momentum, std::size_t count) {
    const FloatMode mode;
    HWY_DYNAMIC_DISPATCH(overlay_here)(x, q, p, d, rate, momentum, count);
}

std::size_t first_not_finite(const float *x, std::size_t count) { return HWY_DYNAMIC_DISPATCH(first_not_finite_here)(x, count); }

const char *vector_target() { return HWY_DYNAMIC_DISPATCH(target_here)(); }

}  // namespace pccl::train
#endif
