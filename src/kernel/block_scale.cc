// Processes buffers of any length and element type, unit by unit. block_scale-inl.h converts a unit.
#include "kernel/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/block_scale.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernel/block_scale-inl.h"
#include "kernel/codec.h"
#include "kernel/combine-inl.h"
#include "kernel/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

/// Bytes of the scales of `count` elements of a unit.
template <class C> constexpr std::size_t scales_bytes(Quantization how, std::size_t count) {
    return (count / how.block + (count % how.block != 0)) * scale_bytes(how, sizeof(C) == 8);
}

/// Scratch memory of one unit, for cases in which the caller's buffer cannot be used.
template <class C> struct UnitBuffer {
    alignas(64) C values[kScaleUnit];
    std::uint8_t scales[kScaleUnit / kMinScaleBlock * sizeof(C)];
    std::uint8_t codes[kScaleUnit];
};

template <class Codes, class C>
void pack_units(Quantization how, Type from, std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    const std::size_t size = size_of(from);
    UnitBuffer<C> buffer;
    for (std::size_t i = 0; i < count; i += kScaleUnit) {
        const std::size_t now = std::min(kScaleUnit, count - i);
        std::uint8_t *const scales = out, *const codes = out + scales_bytes<C>(how, now);
        out = codes + code_bytes(how.type, now);
        const void *unit = in + i * size;
        if (size != sizeof(C)) {
            widen_floats(from, buffer.values, unit, now);
            unit = buffer.values;
        } else if (now < kScaleUnit) {
            std::memcpy(buffer.values, unit, now * sizeof(C));
            unit = buffer.values;
        }
        if (now == kScaleUnit) {
            encode_unit<Codes, C>(how, scales, codes, unit);
        } else {  // zeros do not change the largest magnitude
            std::fill(buffer.values + now, buffer.values + kScaleUnit, C(0));
            encode_unit<Codes, C>(how, buffer.scales, buffer.codes, unit);
            std::memcpy(scales, buffer.scales, scales_bytes<C>(how, now));
            std::memcpy(codes, buffer.codes, code_bytes(how.type, now));
            clear_unused(how.type, codes, now);
        }
    }
}

/// Calls use(values, i, n) for each unit, which holds elements [i, i + n); unpacks into `direct + i` if not null and n allows it.
template <class Codes, class C, class Use>
HWY_INLINE void unpack_units(Quantization how, std::uint8_t *direct, const std::uint8_t *packed, std::size_t count, Use use) {
    UnitBuffer<C> buffer;
    for (std::size_t i = 0; i < count; i += kScaleUnit) {
        const std::size_t now = std::min(kScaleUnit, count - i);
        const std::uint8_t *const scales = packed, *const codes = packed + scales_bytes<C>(how, now);
        packed = codes + code_bytes(how.type, now);
        if (now < kScaleUnit) {
            std::memset(buffer.scales, 0, sizeof buffer.scales);
            std::memset(buffer.codes, 0, sizeof buffer.codes);
            std::memcpy(buffer.scales, scales, scales_bytes<C>(how, now));
            std::memcpy(buffer.codes, codes, code_bytes(how.type, now));
            decode_unit<Codes, C>(how, buffer.values, buffer.scales, buffer.codes);
            use(buffer.values, i, now);
            return;
        }
        void *const to = direct != nullptr ? direct + i * sizeof(C) : static_cast<void *>(buffer.values);
        decode_unit<Codes, C>(how, to, scales, codes);
        use(to, i, now);
    }
}

template <class Codes, class C>
void unpack_same(Quantization how, std::uint8_t *out, const std::uint8_t *packed, std::size_t count) {
    unpack_units<Codes, C>(how, out, packed, count, [out](const void *values, std::size_t i, std::size_t n) HWY_ATTR {
        if (n < kScaleUnit) std::memcpy(out + i * sizeof(C), values, n * sizeof(C));
    });
}

template <class Codes>
void unpack_halves(Quantization how, Type to, std::uint8_t *out, const std::uint8_t *packed, std::size_t count) {
    unpack_units<Codes, float>(how, nullptr, packed, count, [to, out](const void *values, std::size_t i, std::size_t n) HWY_ATTR {
        narrow_floats(to, out + i * 2, values, n);
    });
}

template <class Codes, class C>
void unpack_and_combine(Quantization how, Type operand, Op op, std::uint8_t *out, const std::uint8_t *packed,
                        const std::uint8_t *own, std::size_t count) {
    const std::size_t size = size_of(operand);
    const Combine combine{sizeof(C) == 8 ? Type::f64 : Type::f32, op, false, false};
    unpack_units<Codes, C>(how, nullptr, packed, count, [=](const void *values, std::size_t i, std::size_t n) HWY_ATTR {
        alignas(64) C widened[kScaleUnit];
        const void *mine = own + i * size;
        if (size != sizeof(C)) {
            widen_floats(operand, widened, mine, n);
            mine = widened;
        }
        combine_any(combine, out + i * sizeof(C), values, mine, n);
    });
}

/// Calls use(ScaledCodes<type>()).
template <class Use> void with_codes(Type type, Use use) {
    switch (type) {
    case Type::i8: return use(ScaledCodes<Type::i8>());
    case Type::i4: return use(ScaledCodes<Type::i4>());
    case Type::u4: return use(ScaledCodes<Type::u4>());
    case Type::u2: return use(ScaledCodes<Type::u2>());
    default: return;  // not a type of block_scale
    }
}

void pack_scaled(Quantization how, Type from, std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    with_codes(how.type, [=](auto codes) {
        using Codes = decltype(codes);
        from == Type::f64 ? pack_units<Codes, double>(how, from, out, in, count)
                          : pack_units<Codes, float>(how, from, out, in, count);
    });
}

void unpack_scaled(Quantization how, Type to, std::uint8_t *out, const std::uint8_t *packed, std::size_t count) {
    with_codes(how.type, [=](auto codes) {
        using Codes = decltype(codes);
        if (to == Type::f64)
            unpack_same<Codes, double>(how, out, packed, count);
        else if (to == Type::f32)
            unpack_same<Codes, float>(how, out, packed, count);
        else
            unpack_halves<Codes>(how, to, out, packed, count);
    });
}

void unpack_combine_scaled(Quantization how, Type operand, Op op, std::uint8_t *out, const std::uint8_t *packed,
                           const std::uint8_t *own, std::size_t count) {
    with_codes(how.type, [=](auto codes) {
        using Codes = decltype(codes);
        operand == Type::f64 ? unpack_and_combine<Codes, double>(how, operand, op, out, packed, own, count)
                             : unpack_and_combine<Codes, float>(how, operand, op, out, packed, own, count);
    });
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

std::size_t bytes(Quantization how, Type operand, std::size_t count) {
    const std::size_t blocks = count / how.block + (count % how.block != 0);
    return blocks * scale_bytes(how, operand == Type::f64) + code_bytes(how.type, count);
}

void pack(Quantization how, Type from, void *out, const void *in, std::size_t count) {
    HWY_DYNAMIC_DISPATCH(pack_scaled)(how, from, bytes_at(out), bytes_at(in), count);
}

void unpack(Quantization how, Type to, void *out, const void *packed, std::size_t count) {
    HWY_DYNAMIC_DISPATCH(unpack_scaled)(how, to, bytes_at(out), bytes_at(packed), count);
}

void unpack_combine(Quantization how, Type operand, Op op, void *out, const void *packed, const void *own, std::size_t count) {
    HWY_DYNAMIC_DISPATCH(unpack_combine_scaled)(how, operand, op, bytes_at(out), bytes_at(packed), bytes_at(own), count);
}

}  // namespace

const Codec kBlockScaleCodec{bytes, pack, unpack, unpack_combine};

}  // namespace pccl::kernel
#endif
