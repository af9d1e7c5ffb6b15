// Buffers of any length and element type, unit by unit; the units themselves are in block_scale-inl.h.
#include "kernel/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/block_scale.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernel/block_scale-inl.h"
#include "kernel/block_scale.h"
#include "kernel/combine-inl.h"
#include "kernel/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

template <class C> constexpr std::size_t scale_bytes(Quantization how) {
    return how.scale == Scale::power_of_two ? sizeof(typename ScaleFormat<C>::Power) : sizeof(C);
}

constexpr std::size_t code_bytes(Quantization how, std::size_t count) { return how.type == Type::i4 ? count / 2 + count % 2 : count; }

/// Bytes of the scales of `count` elements of a unit.
template <class C> constexpr std::size_t scales_bytes(Quantization how, std::size_t count) {
    return (count / how.block + (count % how.block != 0)) * scale_bytes<C>(how);
}

/// One unit's worth of each, where a caller's buffer will not do.
template <class C> struct UnitBuffer {
    alignas(64) C values[kScaleUnit];
    std::uint8_t scales[kScaleUnit / kMinScaleBlock * sizeof(C)];
    std::uint8_t codes[kScaleUnit];
};

template <class C> void pack_units(Quantization how, Type from, std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    const std::size_t size = size_of(from);
    UnitBuffer<C> buffer;
    for (std::size_t i = 0; i < count; i += kScaleUnit) {
        const std::size_t now = std::min(kScaleUnit, count - i);
        std::uint8_t *const scales = out, *const codes = out + scales_bytes<C>(how, now);
        out = codes + code_bytes(how, now);
        const void *unit = in + i * size;
        if (size != sizeof(C)) {
            widen_floats(from, buffer.values, unit, now);
            unit = buffer.values;
        } else if (now < kScaleUnit) {
            std::memcpy(buffer.values, unit, now * sizeof(C));
            unit = buffer.values;
        }
        if (now == kScaleUnit) {
            encode_unit<C>(how, scales, codes, unit);
        } else {  // zeros leave the largest magnitude as it is
            std::fill(buffer.values + now, buffer.values + kScaleUnit, C(0));
            encode_unit<C>(how, buffer.scales, buffer.codes, unit);
            std::memcpy(scales, buffer.scales, scales_bytes<C>(how, now));
            std::memcpy(codes, buffer.codes, code_bytes(how, now));
        }
    }
}

/// Calls use(values, i, n) for each unit, which holds elements [i, i + n); unpacks into `direct + i` if not null and n allows it.
template <class C, class Use>
HWY_INLINE void unpack_units(Quantization how, std::uint8_t *direct, const std::uint8_t *packed, std::size_t count, Use use) {
    UnitBuffer<C> buffer;
    for (std::size_t i = 0; i < count; i += kScaleUnit) {
        const std::size_t now = std::min(kScaleUnit, count - i);
        const std::uint8_t *const scales = packed, *const codes = packed + scales_bytes<C>(how, now);
        packed = codes + code_bytes(how, now);
        if (now < kScaleUnit) {
            std::memset(buffer.scales, 0, sizeof buffer.scales);
            std::memset(buffer.codes, 0, sizeof buffer.codes);
            std::memcpy(buffer.scales, scales, scales_bytes<C>(how, now));
            std::memcpy(buffer.codes, codes, code_bytes(how, now));
            decode_unit<C>(how, buffer.values, buffer.scales, buffer.codes);
            use(buffer.values, i, now);
            return;
        }
        void *const to = direct != nullptr ? direct + i * sizeof(C) : static_cast<void *>(buffer.values);
        decode_unit<C>(how, to, scales, codes);
        use(to, i, now);
    }
}

template <class C> void unpack_same(Quantization how, std::uint8_t *out, const std::uint8_t *packed, std::size_t count) {
    unpack_units<C>(how, out, packed, count, [out](const void *values, std::size_t i, std::size_t n) HWY_ATTR {
        if (n < kScaleUnit) std::memcpy(out + i * sizeof(C), values, n * sizeof(C));
    });
}

template <class C>
void unpack_and_combine(Quantization how, Type operand, Op op, std::uint8_t *out, const std::uint8_t *packed, const std::uint8_t *own,
                        std::size_t count) {
    const std::size_t size = size_of(operand);
    const Combine combine{sizeof(C) == 8 ? Type::f64 : Type::f32, op, false, false};
    unpack_units<C>(how, nullptr, packed, count, [=](const void *values, std::size_t i, std::size_t n) HWY_ATTR {
        alignas(64) C widened[kScaleUnit];
        const void *mine = own + i * size;
        if (size != sizeof(C)) {
            widen_floats(operand, widened, mine, n);
            mine = widened;
        }
        combine_any(combine, out + i * sizeof(C), values, mine, n);
    });
}

void pack_scaled(Quantization how, Type from, std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    from == Type::f64 ? pack_units<double>(how, from, out, in, count) : pack_units<float>(how, from, out, in, count);
}

void unpack_scaled(Quantization how, Type to, std::uint8_t *out, const std::uint8_t *packed, std::size_t count) {
    if (to == Type::f64) return unpack_same<double>(how, out, packed, count);
    if (to == Type::f32) return unpack_same<float>(how, out, packed, count);
    unpack_units<float>(how, nullptr, packed, count, [to, out](const void *values, std::size_t i, std::size_t n) HWY_ATTR {
        narrow_floats(to, out + i * 2, values, n);
    });
}

void unpack_combine_scaled(Quantization how, Type operand, Op op, std::uint8_t *out, const std::uint8_t *packed, const std::uint8_t *own,
                           std::size_t count) {
    operand == Type::f64 ? unpack_and_combine<double>(how, operand, op, out, packed, own, count)
                         : unpack_and_combine<float>(how, operand, op, out, packed, own, count);
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pccl::kernel {

HWY_EXPORT(pack_scaled);
HWY_EXPORT(unpack_scaled);
HWY_EXPORT(unpack_combine_scaled);

namespace {

std::uint8_t *bytes_at(void *p) { return static_cast<std::uint8_t *>(p); }
const std::uint8_t *bytes_at(const void *p) { return static_cast<const std::uint8_t *>(p); }

}  // namespace

std::size_t block_scale_bytes(Quantization how, Type operand, std::size_t count) {
    const bool wide = operand == Type::f64;
    const std::size_t scale = how.scale == Scale::power_of_two ? (wide ? 2 : 1) : (wide ? 8 : 4);
    const std::size_t blocks = count / how.block + (count % how.block != 0);
    return blocks * scale + (how.type == Type::i4 ? count / 2 + count % 2 : count);
}

void block_scale_pack(Quantization how, Type from, void *out, const void *in, std::size_t count) {
    HWY_DYNAMIC_DISPATCH(pack_scaled)(how, from, bytes_at(out), bytes_at(in), count);
}

void block_scale_unpack(Quantization how, Type to, void *out, const void *packed, std::size_t count) {
    HWY_DYNAMIC_DISPATCH(unpack_scaled)(how, to, bytes_at(out), bytes_at(packed), count);
}

void block_scale_unpack_combine(Quantization how, Type operand, Op op, void *out, const void *packed, const void *own, std::size_t count) {
    HWY_DYNAMIC_DISPATCH(unpack_combine_scaled)(how, operand, op, bytes_at(out), bytes_at(packed), bytes_at(own), count);
}

}  // namespace pccl::kernel
#endif
