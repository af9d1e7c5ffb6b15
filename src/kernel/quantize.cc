// Processes buffers of any length and element type, block by block. quantize-inl.h converts a block.
#include "kernel/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/quantize.cc"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <bit>

#include "base/float_mode.h"
#include "kernel/codec.h"
#include "kernel/combine-inl.h"
#include "kernel/half-inl.h"
#include "kernel/quantize-inl.h"
#include "kernel/quantize.h"
#include "kernel/reduce.h"

static_assert(std::endian::native == std::endian::little, "ranges and codes travel as they lie in memory");

HWY_BEFORE_NAMESPACE();
namespace pccl::kernel::HWY_NAMESPACE {

/// Scratch memory for the elements of one block or their packed form, for cases in which the caller's buffer cannot be used.
template <class C> struct BlockBuffer { alignas(64) C values[kQuantBlock]; };
template <class Codes, class C> struct PackedBuffer { std::uint8_t bytes[sizeof(Range<C>) + Codes::kBlockBytes]; };

/// `in` holds elements of type `from`: C, or a 16-bit float where C is float.
template <class Codes, class C>
void pack(Quantization how, Type from, std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    const std::size_t size = size_of(from);
    BlockBuffer<C> buffer;
    PackedBuffer<Codes, C> packed;
    for (std::size_t i = 0; i < count; i += kQuantBlock) {
        const std::size_t now = std::min(kQuantBlock, count - i);
        const void *block = in + i * size;
        if (size != sizeof(C)) {
            widen_floats(from, buffer.values, block, now);
            block = buffer.values;
        } else if (now < kQuantBlock) {
            std::memcpy(buffer.values, block, now * sizeof(C));
            block = buffer.values;
        }
        const std::size_t bytes = sizeof(Range<C>) + code_bytes(how.type, now);
        if (now == kQuantBlock) {
            encode_block<Codes, C>(how, out, block);
        } else {  // repeated elements do not change the extrema
            std::fill(buffer.values + now, buffer.values + kQuantBlock, buffer.values[0]);
            encode_block<Codes, C>(how, packed.bytes, block);
            std::memcpy(out, packed.bytes, bytes);
            clear_unused(how.type, out + sizeof(Range<C>), now);
        }
        out += bytes;
    }
}

/// Calls use(values, i, n) for each block, which holds elements [i, i + n); unpacks into `direct + i` if not null and n allows
/// it.
template <class Codes, class C, class Use>
HWY_INLINE void unpack(Quantization how, std::uint8_t *direct, const std::uint8_t *packed, std::size_t count, Use use) {
    BlockBuffer<C> buffer;
    PackedBuffer<Codes, C> padded = {};
    for (std::size_t i = 0; i < count; i += kQuantBlock) {
        const std::size_t now = std::min(kQuantBlock, count - i);
        const std::size_t bytes = sizeof(Range<C>) + code_bytes(how.type, now);
        const std::uint8_t *from = packed;
        if (now < kQuantBlock) {
            std::memcpy(padded.bytes, packed, bytes);
            from = padded.bytes;
        }
        void *const to = direct != nullptr && now == kQuantBlock ? direct + i * sizeof(C) : static_cast<void *>(buffer.values);
        decode_block<Codes, C>(how, to, from);
        use(to, i, now);
        packed += bytes;
    }
}

template <class Codes, class C>
void unpack_plain(Quantization how, std::uint8_t *out, const std::uint8_t *packed, std::size_t count) {
    unpack<Codes, C>(how, out, packed, count, [out](const void *values, std::size_t i, std::size_t n) HWY_ATTR {
        if (n < kQuantBlock) std::memcpy(out + i * sizeof(C), values, n * sizeof(C));
    });
}

template <class Codes>
void unpack_halves(Quantization how, Type to, std::uint8_t *out, const std::uint8_t *packed, std::size_t count) {
    unpack<Codes, float>(how, nullptr, packed, count, [to, out](const void *values, std::size_t i, std::size_t n) HWY_ATTR {
        narrow_floats(to, out + i * 2, values, n);
    });
}

template <class Codes, class C>
void unpack_combine(Quantization how, Type operand, Op op, std::uint8_t *out, const std::uint8_t *packed, const std::uint8_t *own,
                    std::size_t count) {
    const std::size_t size = size_of(operand);
    const Combine combine{sizeof(C) == 8 ? Type::f64 : Type::f32, op, false, false};
    unpack<Codes, C>(how, nullptr, packed, count, [=](const void *values, std::size_t i, std::size_t n) HWY_ATTR {
        BlockBuffer<C> widened;
        const void *mine = own + i * size;
        if (size != sizeof(C)) {
            widen_floats(operand, widened.values, mine, n);
            mine = widened.values;
        }
        combine_any(combine, out + i * sizeof(C), values, mine, n);
    });
}

/// Calls use(RangeCodes<type>()).
template <class Use> void with_codes(Type type, Use use) {
    switch (type) {
    case Type::u8: return use(RangeCodes<Type::u8>());
    case Type::i8: return use(RangeCodes<Type::i8>());
    case Type::u16: return use(RangeCodes<Type::u16>());
    case Type::i16: return use(RangeCodes<Type::i16>());
    case Type::u4: return use(RangeCodes<Type::u4>());
    case Type::u2: return use(RangeCodes<Type::u2>());
    default: return;  // not a type of min_max and zero_point_scale
    }
}

void pack_here(Quantization how, Type from, std::uint8_t *out, const std::uint8_t *in, std::size_t count) {
    with_codes(how.type, [=](auto codes) {
        using Codes = decltype(codes);
        from == Type::f64 ? pack<Codes, double>(how, from, out, in, count) : pack<Codes, float>(how, from, out, in, count);
    });
}

void unpack_here(Quantization how, Type to, std::uint8_t *out, const std::uint8_t *packed, std::size_t count) {
    with_codes(how.type, [=](auto codes) {
        using Codes = decltype(codes);
        if (to == Type::f64)
            unpack_plain<Codes, double>(how, out, packed, count);
        else if (to == Type::f32)
            unpack_plain<Codes, float>(how, out, packed, count);
        else
            unpack_halves<Codes>(how, to, out, packed, count);
    });
}

void unpack_combine_here(Quantization how, Type operand, Op op, std::uint8_t *out, const std::uint8_t *packed,
                         const std::uint8_t *own, std::size_t count) {
    with_codes(how.type, [=](auto codes) {
        using Codes = decltype(codes);
        operand == Type::f64 ? unpack_combine<Codes, double>(how, operand, op, out, packed, own, count)
                             : unpack_combine<Codes, float>(how, operand, op, out, packed, own, count);
    });
}

/// lost[i] = (value[i] - back[i]) * factor, plus the old lost[i] if `more`; 0 if the result is not finite.
template <class C>
void lose(void *lost, const void *value, const void *back, std::size_t count, std::uint32_t factor, bool more) {
    const hn::ScalableTag<C> d;
    const auto by = static_cast<C>(factor);
    const auto rest = [d, by](auto v, auto b) HWY_ATTR {
        const auto r = hn::Mul(hn::Sub(v, b), hn::Set(d, by));
        return hn::IfThenElseZero(hn::Lt(hn::Abs(r), hn::Set(d, std::numeric_limits<C>::infinity())), r);
    };
    if (!more) return map(d, d, d, lost, value, back, count, rest);
    alignas(64) C added[kQuantBlock];
    for (std::size_t i = 0; i < count; i += kQuantBlock) {
        const std::size_t n = std::min(kQuantBlock, count - i);
        map(d, d, d, added, static_cast<const C *>(value) + i, static_cast<const C *>(back) + i, n, rest);
        C *const to = static_cast<C *>(lost) + i;
        map(d, d, d, to, to, added, n, [](auto a, auto b) HWY_ATTR { return hn::Add(a, b); });
    }
}

void lose_here(Type compute, void *lost, const void *value, const void *back, std::size_t count, std::uint32_t factor,
               bool more) {
    compute == Type::f64 ? lose<double>(lost, value, back, count, factor, more)
                         : lose<float>(lost, value, back, count, factor, more);
}

}  // namespace pccl::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pccl::kernel {

HWY_EXPORT(pack_here);
HWY_EXPORT(unpack_here);
HWY_EXPORT(unpack_combine_here);
HWY_EXPORT(lose_here);

namespace {

std::uint8_t *bytes_at(void *p) { return static_cast<std::uint8_t *>(p); }
const std::uint8_t *bytes_at(const void *p) { return static_cast<const std::uint8_t *>(p); }

std::size_t range_bytes(Quantization how, Type operand, std::size_t count) {
    const std::size_t blocks = count / kQuantBlock + (count % kQuantBlock != 0);
    return blocks * 2 * size_of(compute_type(operand)) + code_bytes(how.type, count);
}

void range_pack(Quantization how, Type from, void *out, const void *in, std::size_t count) {
    HWY_DYNAMIC_DISPATCH(pack_here)(how, from, bytes_at(out), bytes_at(in), count);
}

void range_unpack(Quantization how, Type to, void *out, const void *packed, std::size_t count) {
    HWY_DYNAMIC_DISPATCH(unpack_here)(how, to, bytes_at(out), bytes_at(packed), count);
}

void range_unpack_combine(Quantization how, Type operand, Op op, void *out, const void *packed, const void *own,
                          std::size_t count) {
    HWY_DYNAMIC_DISPATCH(unpack_combine_here)(how, operand, op, bytes_at(out), bytes_at(packed), bytes_at(own), count);
}

const Codec &codec_of(Quant algorithm) {
    static constexpr const Codec *kCodecs[kQuants] = {nullptr, &kRangeCodec, &kRangeCodec, &kBlockScaleCodec};
    return *kCodecs[static_cast<int>(algorithm)];
}

/// Elements that pass through all steps while they are in the first-level cache: whole blocks of every algorithm. The number is
/// small because the next piece is prefetched meanwhile, and a processor can have a limited number of cache lines in flight.
constexpr std::size_t kPiece = 512;
static_assert(kPiece % kQuantBlock == 0 && kPiece % kMaxScaleBlock == 0);
static_assert(kMaxFinish >= kPiece);
struct Piece {
    alignas(64) std::uint8_t values[kMaxFinish * sizeof(double)];
};

/// Calls step(i, n, p) for each piece: elements [i, i + n), packed from byte p on.
template <class Step> void in_pieces(Quantization how, Type operand, std::size_t count, Step step) {
    const std::size_t packed = packed_bytes(how, operand, kPiece);
    for (std::size_t i = 0; i < count; i += kPiece)
        step(i, std::min(kPiece, count - i), i / kPiece * packed);
}

/// Prefetches memory that will be read soon. A prefetch beyond the buffer's end has no effect.
void fetch(const std::uint8_t *from, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i += 64)
        hwy::Prefetch(from + i);
}

/// The feedback for the elements that begin at `i`.
Feedback from(Feedback feedback, Type operand, std::size_t i) {
    const std::size_t at = i * size_of(compute_type(operand));
    return feedback ? Feedback{bytes_at(feedback.residual) + at, bytes_at(feedback.lost) + at} : feedback;
}

/// Stores the error of packing `values`, multiplied by `factor`.
void note_lost(Quantization how, Type operand, Feedback feedback, const void *values, const void *packed, std::size_t count,
               std::uint32_t factor, bool more) {
    Piece back;
    dequantize(how, operand, back.values, packed, count);
    HWY_DYNAMIC_DISPATCH(lose_here)(compute_type(operand), feedback.lost, values, back.values, count, factor, more);
}

/// Returns the elements to pack: own elements plus the residual, in the compute type.
void add_residual(Type operand, Feedback feedback, void *values, const void *own, std::size_t count) {
    combine({operand, Op::sum, false, true}, values, feedback.residual, own, count);
}

/// values = unpacked op own, or unpacked op the result of add_residual.
void add_own(Quantization how, Type operand, Op op, void *values, const void *packed, const void *own, std::size_t count,
             Feedback feedback) {
    if (!feedback) return dequantize_combine(how, operand, op, values, packed, own, count);
    add_residual(operand, feedback, values, own, count);
    dequantize_combine(how, compute_type(operand), op, values, packed, values, count);
}

/// The last steps: divides, packs, and unpacks the result as the other members do.
void finish_piece(Quantization how, Type operand, Op op, void *packed, void *values, void *out, std::size_t count,
                  std::uint32_t divisor, Feedback feedback, bool more) {
    scale_average(operand, op, values, count, divisor);
    quantize(how, operand, packed, values, count);
    if (feedback) note_lost(how, operand, feedback, values, packed, count, op == Op::avg ? divisor : 1, more);
    dequantize_output(how, operand, out, packed, count);
}

}  // namespace

const Codec kRangeCodec{range_bytes, range_pack, range_unpack, range_unpack_combine};

std::size_t packed_bytes(Quantization how, Type operand, std::size_t count) {
    return codec_of(how.algorithm).bytes(how, operand, count);
}

void quantize(Quantization how, Type operand, void *out, const void *in, std::size_t count) {
    const FloatMode mode;
    codec_of(how.algorithm).pack(how, compute_type(operand), out, in, count);
}

void quantize_input(Quantization how, Type operand, void *out, const void *in, std::size_t count, Feedback feedback) {
    const FloatMode mode;
    if (feedback) {
        Piece piece;
        return in_pieces(how, operand, count, [&](std::size_t i, std::size_t n, std::size_t p) {
            const Feedback here = from(feedback, operand, i);
            add_residual(operand, here, piece.values, bytes_at(in) + i * size_of(operand), n);
            quantize(how, operand, bytes_at(out) + p, piece.values, n);
            note_lost(how, operand, here, piece.values, bytes_at(out) + p, n, 1, false);
        });
    }
    codec_of(how.algorithm).pack(how, operand, out, in, count);
}

void dequantize(Quantization how, Type operand, void *out, const void *packed, std::size_t count) {
    const FloatMode mode;
    codec_of(how.algorithm).unpack(how, compute_type(operand), out, packed, count);
}

void dequantize_combine(Quantization how, Type operand, Op op, void *out, const void *packed, const void *own,
                        std::size_t count) {
    const FloatMode mode;
    codec_of(how.algorithm).unpack_combine(how, operand, op, out, packed, own, count);
}

void dequantize_output(Quantization how, Type operand, void *out, const void *packed, std::size_t count) {
    const FloatMode mode;
    codec_of(how.algorithm).unpack(how, operand, out, packed, count);
}

void scale_average(Type operand, Op op, void *values, std::size_t count, std::uint32_t divisor) {
    finish(compute_type(operand), op, values, values, count, divisor);
}

void requantize(Quantization how, Type operand, Op op, void *packed, const void *own, std::size_t count, Feedback feedback) {
    const FloatMode mode;
    Piece piece;
    const std::size_t size = size_of(operand);
    in_pieces(how, operand, count, [&](std::size_t i, std::size_t n, std::size_t p) {
        const Feedback here = from(feedback, operand, i);
        std::uint8_t *const at = bytes_at(packed) + p;
        fetch(bytes_at(own) + (i + n) * size, kPiece * size);
        add_own(how, operand, op, piece.values, at, bytes_at(own) + i * size, n, here);
        quantize(how, operand, at, piece.values, n);
        if (here) note_lost(how, operand, here, piece.values, at, n, 1, false);
    });
}

void requantize_final(Quantization how, Type operand, Op op, void *packed, const void *own, void *out, std::size_t count,
                      std::uint32_t divisor, Feedback feedback) {
    const FloatMode mode;
    Piece piece;
    const std::size_t size = size_of(operand);
    in_pieces(how, operand, count, [&](std::size_t i, std::size_t n, std::size_t p) {
        const Feedback here = from(feedback, operand, i);
        std::uint8_t *const at = bytes_at(packed) + p;
        fetch(bytes_at(own) + (i + n) * size, kPiece * size);
        add_own(how, operand, op, piece.values, at, bytes_at(own) + i * size, n, here);
        finish_piece(how, operand, op, at, piece.values, bytes_at(out) + i * size, n, divisor, here, false);
    });
}

void finish_one_hop(Quantization how, Type operand, Op op, void *packed, void *sum, const void *own, void *out, std::size_t count,
                    std::uint32_t divisor, Feedback feedback) {
    const FloatMode mode;
    quantize_input(how, operand, packed, own, count, feedback);
    dequantize_combine(how, compute_type(operand), op, sum, packed, sum, count);
    finish_piece(how, operand, op, packed, sum, out, count, divisor, feedback, true);
}

}  // namespace pccl::kernel
#endif
