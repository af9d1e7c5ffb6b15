// Quantization on every instruction set: errors compared with float64 and long double, the wire layout compared with a direct
// implementation of quantize.h, equal bytes on all of them, and blocks at the limits of the float formats.
#include "kernel/quantize.h"

#include <algorithm>
#include <limits>

#include "unit/kernel_reference.h"
#include "unit/kernel_targets.h"

namespace pccl::kernel {
namespace {

constexpr std::uint64_t kSeed = 77001;
constexpr Type kOperands[] = {Type::f16, Type::bf16, Type::f32, Type::f64};
constexpr Op kAllOps[] = {Op::sum, Op::avg, Op::prod, Op::max, Op::min};

std::vector<Quantization> all_quantizations() {
    std::vector<Quantization> all;
    for (const Quant algorithm : {Quant::min_max, Quant::zero_point_scale})
        for (const Type type : {Type::u8, Type::i8, Type::u16, Type::i16, Type::u4, Type::u2})
            all.push_back({algorithm, type});
    return all;
}

std::string describe(Quantization how, Type operand, std::size_t count) {
    return std::string(how.algorithm == Quant::min_max ? "min-max " : "zero-point-scale ") + name_of(operand) + " to " +
           name_of(how.type) + " count " + std::to_string(count);
}

template <class C> constexpr Type type_of = sizeof(C) == 8 ? Type::f64 : Type::f32;

template <class C> bool same_bits(const std::vector<C> &a, const std::vector<C> &b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(C)) == 0);
}

template <class C> std::vector<std::uint8_t> packed(Quantization how, const std::vector<C> &values) {
    std::vector<std::uint8_t> bytes(packed_bytes(how, type_of<C>, values.size()));
    quantize(how, type_of<C>, bytes.data(), values.data(), values.size());
    return bytes;
}

template <class C> std::vector<C> round_trip(Quantization how, const std::vector<C> &values) {
    std::vector<C> back(values.size());
    dequantize(how, type_of<C>, back.data(), packed(how, values).data(), values.size());
    return back;
}

int levels_of(Type type) {
    switch (type) {
    case Type::u2: return 3;
    case Type::u4: return 15;
    case Type::u8:
    case Type::i8: return 255;
    default: return 65535;
    }
}

/// The largest error that quantize.h allows any element of this block.
template <class C> long double allowed_error(Quantization how, const C *block, std::size_t count) {
    using Number = std::numeric_limits<C>;
    const auto [low, high] = std::minmax_element(block, block + count);
    const long double span = static_cast<long double>(*high) - *low;
    const long double magnitude = std::max(std::abs(static_cast<long double>(*low)), std::abs(static_cast<long double>(*high)));
    const long double levels = levels_of(how.type);
    long double step = span / levels;
    if (how.algorithm == Quant::zero_point_scale)
        step = std::max(span / (levels < 255 ? levels : levels - 1) + Number::denorm_min(),
                        magnitude * (sizeof(C) == 8 ? 0x1p-50L : 0x1p-22L));
    return span == 0 ? 0 : step * 0.51L + 3 * magnitude * Number::epsilon() + 2 * static_cast<long double>(Number::denorm_min());
}

template <class C> void expect_close(Quantization how, const std::vector<C> &values, const std::vector<C> &back) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t start = i / kQuantBlock * kQuantBlock;
        const long double allowed = allowed_error(how, values.data() + start, std::min(kQuantBlock, values.size() - start));
        const long double error = std::abs(static_cast<long double>(back[i]) - values[i]);
        ASSERT_LE(error, allowed) << describe(how, type_of<C>, values.size()) << " element " << i << ": " << values[i] << " -> "
                                  << back[i];
    }
}

template <class C> std::vector<C> normal(std::size_t count, double mean, double deviation, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> distribution(mean, deviation);
    std::vector<C> values(count);
    for (C &v : values)
        v = static_cast<C>(distribution(random));
    return values;
}

template <class C> std::vector<C> uniform(std::size_t count, long double low, long double high, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<C> values(count);
    for (C &v : values)
        v = static_cast<C>(low + (high - low) * (static_cast<long double>(random()) * 0x1p-64L));
    return values;
}

/// Checks on every target and with every quantization that errors are within their limits and that the bits are equal.
template <class C> void expect_round_trip(const std::vector<C> &values) {
    for (const Quantization how : all_quantizations()) {
        std::vector<std::uint8_t> first;
        std::vector<C> first_back;
        on_every_target([&](std::int64_t) {
            const auto bytes = packed(how, values);
            const auto back = round_trip(how, values);
            ASSERT_NO_FATAL_FAILURE(expect_close(how, values, back));
            if (first.empty()) {
                first = bytes;
                first_back = back;
            }
            ASSERT_EQ(bytes, first) << describe(how, type_of<C>, values.size());
            ASSERT_TRUE(same_bits(back, first_back)) << describe(how, type_of<C>, values.size());
        });
    }
}

TEST(KernelQuantize, ReturnsEveryElementWithinHalfAStep) {
    for (const std::size_t count : test_counts()) {
        expect_round_trip(normal<float>(count, 0, 1, kSeed + count));
        expect_round_trip(normal<double>(count, 3, 1, kSeed + count));
        if (HasFatalFailure()) return;
    }
}

template <class C> void expect_round_trip_at_edges() {
    using Number = std::numeric_limits<C>;
    const long double max = Number::max(), tiny = Number::min(), unit = Number::denorm_min();
    const long double edges[][2] = {{10, 11},
                                    {-11, -10},
                                    {9.9L, 10.1L},
                                    {1e-3L, 1},
                                    {-1, 0},
                                    {0, 1},
                                    {-max, max},
                                    {-0.9L * max, 0.8L * max},
                                    {0, max},
                                    {-max, 0},
                                    {max / 2, max},
                                    {-max, -max * 0.999L},
                                    {0, tiny},
                                    {-tiny, tiny},
                                    {0, 100 * unit},
                                    {-100 * unit, 155 * unit},
                                    {0, 300 * unit},
                                    {0, 70000 * unit},
                                    {-9 * unit, 9000 * unit},
                                    {0, 3 * unit},
                                    {1e-40L, 1.1e-40L},
                                    {-1e-40L, 1e-40L},
                                    {-1e-39L, -1e-40L},
                                    {1e30L, 1.0001e30L},
                                    {-1e-20L, 1e-18L},
                                    {1e-19L, 1.00001e-19L}};
    for (std::size_t k = 0; k < std::size(edges); ++k) {
        SCOPED_TRACE(testing::Message() << "from " << edges[k][0] << " to " << edges[k][1]);
        auto values = uniform<C>(700, edges[k][0], edges[k][1], kSeed + k);
        values[3] = static_cast<C>(edges[k][0]);
        values[300] = static_cast<C>(edges[k][1]);
        values[301] = static_cast<C>(edges[k][0]);
        ASSERT_NO_FATAL_FAILURE(expect_round_trip(values));
    }
}

TEST(KernelQuantize, HoldsItsErrorForExtremeBlocks) {
    expect_round_trip_at_edges<float>();
    expect_round_trip_at_edges<double>();
    expect_round_trip(uniform<double>(600, -1e300L, 1e300L, kSeed));
    expect_round_trip(uniform<double>(600, -1e-310L, 3e-310L, kSeed));
}

TEST(KernelQuantize, HoldsItsErrorAtRandomScalesAndOffsets) {
    std::mt19937_64 random(kSeed + 9);
    for (int round = 0; round < 150; ++round) {
        const double center =
            std::ldexp(static_cast<double>(static_cast<std::int64_t>(random())), static_cast<int>(random() % 160) - 150);
        const double width = std::abs(center) * std::ldexp(1, 4 - static_cast<int>(random() % 30));
        SCOPED_TRACE(testing::Message() << "seed " << kSeed + 9 << " center " << center << " width " << width);
        ASSERT_NO_FATAL_FAILURE(expect_round_trip(uniform<float>(256, center - width, center + width, random())));
        ASSERT_NO_FATAL_FAILURE(expect_round_trip(uniform<double>(256, center - width, center + width, random())));
    }
}

TEST(KernelQuantize, AnOutlierCoarsensOnlyItsOwnBlock) {
    auto values = normal<float>(3 * kQuantBlock, 0, 1, kSeed);
    values[kQuantBlock + 7] = 1e6f;
    expect_round_trip(values);
}

template <class C> void expect_constants_kept() {
    using Number = std::numeric_limits<C>;
    for (const C c : {C(0), C(0.3), C(-0.3), C(1), C(-7e5), Number::max(), Number::lowest(), Number::min(), Number::denorm_min(),
                      C(-1e-40), C(1e-30), C(1e30)})
        for (const std::size_t count : {std::size_t{1}, std::size_t{5}, kQuantBlock, kQuantBlock + 9})
            for (const Quantization how : all_quantizations())
                on_every_target([&](std::int64_t) {
                    const std::vector<C> values(count, c);
                    ASSERT_EQ(round_trip(how, values), values) << describe(how, type_of<C>, count);
                });
}

TEST(KernelQuantize, AConstantBlockComesBackExactly) {
    expect_constants_kept<float>();
    expect_constants_kept<double>();
}

template <class C> void expect_zero_kept() {
    const long double widths[] = {1, 3e-41L, 1e-38L, 1e-300L, 1e20L, 3e38L, 1e300L};
    std::mt19937_64 random(kSeed + 3);
    for (const long double width : widths) {
        if (width > std::numeric_limits<C>::max()) continue;
        for (int round = 0; round < 40; ++round) {
            const long double low = -width * (static_cast<long double>(random()) * 0x1p-64L);
            const long double high = width * (static_cast<long double>(random()) * 0x1p-64L);
            auto values = uniform<C>(kQuantBlock, round == 0 ? 0 : low, round == 1 ? 0 : high, random());
            for (std::size_t i = 0; i < values.size(); i += 5)
                values[i] = i % 2 ? C(0) : -C(0);
            for (const Type type : {Type::u8, Type::i8, Type::u16, Type::i16, Type::u4, Type::u2})
                on_every_target([&](std::int64_t) {
                    const auto back = round_trip(Quantization{Quant::zero_point_scale, type}, values);
                    for (std::size_t i = 0; i < values.size(); i += 5)
                        ASSERT_EQ(back[i], C(0)) << static_cast<double>(width) << " " << i;
                });
        }
    }
}

TEST(KernelQuantize, ZeroPointScaleKeepsZeroExactly) {
    expect_zero_kept<float>();
    expect_zero_kept<double>();
}

template <class C> void expect_nan_blocks() {
    for (const C bad :
         {std::numeric_limits<C>::quiet_NaN(), std::numeric_limits<C>::infinity(), -std::numeric_limits<C>::infinity()})
        for (const Quantization how : all_quantizations())
            for (std::size_t where = 0; where < 600; where += 23)
                on_every_target([&](std::int64_t) {
                    auto values = normal<C>(600, 0, 1, kSeed);
                    values[where] = bad;
                    const auto back = round_trip(how, values);
                    for (std::size_t i = 0; i < values.size(); ++i)
                        ASSERT_EQ(std::isnan(back[i]), i / kQuantBlock == where / kQuantBlock) << describe(how, type_of<C>, i);
                    const C canonical = reference::canonical(std::numeric_limits<C>::quiet_NaN());
                    ASSERT_EQ(std::memcmp(&back[where], &canonical, sizeof(C)), 0);
                });
}

TEST(KernelQuantize, NanOrInfinityMakesOnlyItsBlockNan) {
    expect_nan_blocks<float>();
    expect_nan_blocks<double>();
}

/// quantize.h's formulas, one element at a time.
template <class C> C plain_value(Quantization how, C first, C second, std::uint32_t u) {
    const bool wide = sizeof(C) == 8;
    const C levels = static_cast<C>(levels_of(how.type));
    const C largest = std::numeric_limits<C>::max();
    if (!std::isfinite(first) || !std::isfinite(second)) return reference::canonical(std::numeric_limits<C>::quiet_NaN());
    volatile C value;
    if (how.algorithm == Quant::min_max) {
        const C m = std::max(std::abs(first), std::abs(second));
        const C huge = wide ? static_cast<C>(0x1p1022) : C(0x1p126f);
        const C tiny = wide ? static_cast<C>(0x1p-900) : C(0x1p-60f);
        const C up = m >= huge ? C(0.25) : m < tiny ? (wide ? C(0x1p200) : C(0x1p64f)) : C(1);
        volatile C base = first * up;
        volatile C step = second * up - base;
        step = step / levels;
        value = C(u) * step;
        value = value + base;
        value = value / up;
    } else {
        value = C(u) - second;
        value = value * first;
    }
    return std::clamp(C{value}, -largest, largest);
}

template <class C> std::vector<C> plain_dequantize(Quantization how, const std::vector<std::uint8_t> &bytes, std::size_t count) {
    std::vector<C> out;
    const std::uint8_t *at = bytes.data();
    while (out.size() < count) {
        const C first = reference::read<C>(at), second = reference::read<C>(at + sizeof(C));
        at += 2 * sizeof(C);
        const std::size_t elements = std::min(kQuantBlock, count - out.size());
        for (std::size_t i = 0; i < elements; ++i) {
            std::int32_t u = 0;
            switch (how.type) {
            case Type::u8: u = at[i]; break;
            case Type::i8: u = reference::read<std::int8_t>(at + i) + 128; break;
            case Type::u16: u = reference::read<std::uint16_t>(at + 2 * i); break;
            case Type::u4: u = at[i / 2] >> i % 2 * 4 & 15; break;
            case Type::u2: u = at[i / 4] >> i % 4 * 2 & 3; break;
            default: u = reference::read<std::int16_t>(at + 2 * i) + 32768; break;
            }
            out.push_back(plain_value(how, first, second, static_cast<std::uint32_t>(u)));
        }
        const std::size_t per_byte = how.type == Type::u2 ? 4 : how.type == Type::u4 ? 2 : 1;
        at += per_byte > 1 ? (elements + per_byte - 1) / per_byte : elements * size_of(how.type);
    }
    EXPECT_EQ(at, bytes.data() + bytes.size());
    return out;
}

/// Equal bits, except for the sign of a zero.
template <class C> bool same(C a, C b) { return std::memcmp(&a, &b, sizeof a) == 0 || (a == 0 && b == 0); }

template <class C> void expect_documented_layout() {
    std::mt19937_64 random(kSeed + 4);
    for (const Quantization how : all_quantizations())
        for (const std::size_t count : {0, 1, 255, 256, 257, 700}) {
            const auto values = normal<C>(count, 1, 1, random());
            const auto bytes = packed(how, values);
            on_every_target([&](std::int64_t) {
                const auto want = plain_dequantize<C>(how, bytes, count);
                const auto back = round_trip(how, values);
                for (std::size_t i = 0; i < count; ++i)
                    ASSERT_TRUE(same(back[i], want[i])) << describe(how, type_of<C>, count) << " " << i;
            });
        }
}

TEST(KernelQuantize, WireFormatIsAsDocumented) {
    expect_documented_layout<float>();
    expect_documented_layout<double>();
}

/// A range of random bits that often contains extreme values.
template <class C> void hostile_range(std::uint8_t *at, std::mt19937_64 &random) {
    for (int k = 0; k < 2; ++k) {
        const auto bytes = reference::elements(type_of<C>, 1, random);
        std::memcpy(at + static_cast<std::size_t>(k) * sizeof(C), bytes.data(), sizeof(C));
    }
}

template <class C> void expect_hostile_bytes_harmless() {
    std::mt19937_64 random(kSeed + 5);
    for (int round = 0; round < 3000; ++round) {
        const auto all = all_quantizations();
        const Quantization how = all[static_cast<std::size_t>(round) % all.size()];
        const std::size_t count = 1 + random() % 300;
        std::vector<std::uint8_t> bytes(packed_bytes(how, type_of<C>, count));
        for (auto &b : bytes)
            b = static_cast<std::uint8_t>(random());
        if (round % 2 == 0) hostile_range<C>(bytes.data(), random);
        const auto want = plain_dequantize<C>(how, bytes, count);
        on_every_target([&](std::int64_t) {
            std::vector<C> out(count);
            dequantize(how, type_of<C>, out.data(), bytes.data(), count);
            for (std::size_t i = 0; i < count; ++i)
                ASSERT_TRUE(same(out[i], want[i])) << describe(how, type_of<C>, count) << " " << i << ": " << out[i] << ", not "
                                                   << want[i] << ", round " << round;
        });
        if (testing::Test::HasFatalFailure()) return;
    }
}

TEST(KernelQuantize, AnyBytesUnpackToTheSameValuesEverywhere) {
    expect_hostile_bytes_harmless<float>();
    expect_hostile_bytes_harmless<double>();
}

TEST(KernelQuantize, PackedBytesCountsRangesAndCodes) {
    const Quantization bytes{Quant::min_max, Type::u8}, words{Quant::zero_point_scale, Type::i16};
    EXPECT_EQ(packed_bytes(bytes, Type::f32, 0), 0u);
    EXPECT_EQ(packed_bytes(bytes, Type::bf16, 1), 9u);
    EXPECT_EQ(packed_bytes(bytes, Type::f32, 256), 264u);
    EXPECT_EQ(packed_bytes(bytes, Type::f32, 257), 273u);
    EXPECT_EQ(packed_bytes(words, Type::f64, 257), 2 * 16u + 514u);
    const Quantization nibbles{Quant::min_max, Type::u4}, pairs{Quant::zero_point_scale, Type::u2};
    EXPECT_EQ(packed_bytes(nibbles, Type::f32, 1), 8u + 1u);
    EXPECT_EQ(packed_bytes(nibbles, Type::f32, 257), 2 * 8u + 129u);
    EXPECT_EQ(packed_bytes(pairs, Type::f32, 5), 8u + 2u);
    EXPECT_EQ(packed_bytes(pairs, Type::f64, 513), 3 * 16u + 129u);
    const std::size_t huge = (std::size_t{1} << 58) - 1;
    EXPECT_EQ(packed_bytes(pairs, Type::f64, huge), (std::size_t{1} << 56) + (huge / 256 + 1) * 16);
    EXPECT_EQ(packed_bytes(words, Type::f64, huge), huge * 2 + (huge / 256 + 1) * 16);
}

TEST(KernelQuantize, UnusedBitsOfTheLastByteAreZero) {
    auto all = all_quantizations();
    for (const Type type : {Type::i4, Type::u4, Type::u2})
        for (const Scale scale : {Scale::floating, Scale::power_of_two})
            all.push_back({Quant::block_scale, type, 64, scale});
    for (const Quantization how : all) {
        if (bits_of(how.type) >= 8) continue;
        for (const std::size_t count : test_counts()) {
            const std::size_t used = count * bits_of(how.type) % 8;
            if (used == 0) continue;
            on_every_target([&](std::int64_t) {
                const auto bytes = packed(how, normal<float>(count, 5, 1, kSeed + count));
                ASSERT_EQ(bytes.back() >> used, 0) << describe(how, Type::f32, count);
            });
        }
    }
}

TEST(KernelQuantize, CodesOfAByteAreReadFromTheLowestBitsUp) {
    const float range[] = {0, 3};
    std::vector<std::uint8_t> pairs(packed_bytes({Quant::min_max, Type::u2}, Type::f32, 5)),
        nibbles(packed_bytes({Quant::min_max, Type::u4}, Type::f32, 3));
    std::memcpy(pairs.data(), range, sizeof range);
    pairs[8] = 0b11'10'01'00;
    pairs[9] = 0b11'11'11'10;  // the upper six bits hold no code
    const float sixteen[] = {0, 15};
    std::memcpy(nibbles.data(), sixteen, sizeof sixteen);
    nibbles[8] = 0xE3;
    nibbles[9] = 0xF5;
    on_every_target([&](std::int64_t) {
        std::vector<float> five(5), three(3);
        dequantize({Quant::min_max, Type::u2}, Type::f32, five.data(), pairs.data(), five.size());
        dequantize({Quant::min_max, Type::u4}, Type::f32, three.data(), nibbles.data(), three.size());
        EXPECT_EQ(five, (std::vector<float>{0, 1, 2, 3, 2}));
        EXPECT_EQ(three, (std::vector<float>{3, 14, 5}));
    });
}

TEST(KernelQuantize, WritesNothingOutsideItsOutputAtAnyAlignment) {
    std::mt19937_64 random(kSeed + 6);
    for (const Quantization how : all_quantizations())
        for (const Type operand : kOperands)
            for (const std::size_t count : {0, 1, 7, 255, 256, 257, 515}) {
                const std::size_t offset = random() % 64;
                const Type compute = compute_type(operand);
                const auto in = reference::elements(operand, count, random);
                on_every_target([&](std::int64_t) {
                    Buffer from(in.size(), offset), wire(packed_bytes(how, operand, count), (offset * 5 + 1) % 64);
                    Buffer unpacked(count * size_of(compute), (offset * 3 + 1) % 64), output(in.size(), (offset + 9) % 64);
                    from.assign(in);
                    quantize_input(how, operand, wire.data(), from.data(), count);
                    dequantize(how, operand, unpacked.data(), wire.data(), count);
                    dequantize_output(how, operand, output.data(), wire.data(), count);
                    ASSERT_TRUE(wire.guards_hold() && unpacked.guards_hold() && output.guards_hold());
                    dequantize_combine(how, operand, Op::sum, unpacked.data(), wire.data(), from.data(), count);
                    ASSERT_TRUE(unpacked.guards_hold()) << describe(how, operand, count);
                });
            }
}

/// The compute type's value of an operand, as double.
double operand_value(Type operand, const std::uint8_t *at) {
    return operand == Type::f64 ? reference::read<double>(at) : reference::read_float(operand, at);
}

template <class C> void expect_input_widened(Quantization how, Type operand, std::size_t count, std::mt19937_64 &random) {
    auto in = reference::elements(operand, count, random);
    std::vector<C> wide(count);
    for (std::size_t i = 0; i < count; ++i) {
        const double v = operand_value(operand, in.data() + i * size_of(operand));
        if (!std::isfinite(v))  // keep most blocks finite
            std::memset(in.data() + i * size_of(operand), 0, size_of(operand));
        else
            wide[i] = static_cast<C>(v);
    }
    on_every_target([&](std::int64_t) {
        std::vector<std::uint8_t> bytes(packed_bytes(how, operand, count));
        quantize_input(how, operand, bytes.data(), in.data(), count);
        ASSERT_EQ(bytes, packed(how, wide)) << describe(how, operand, count);
    });
}

TEST(KernelQuantize, PacksSixteenBitInputsAsIfWidened) {
    std::mt19937_64 random(kSeed + 7);
    for (const Quantization how : all_quantizations())
        for (const std::size_t count : {1, 100, 256, 600}) {
            expect_input_widened<float>(how, Type::f16, count, random);
            expect_input_widened<float>(how, Type::bf16, count, random);
            expect_input_widened<float>(how, Type::f32, count, random);
            expect_input_widened<double>(how, Type::f64, count, random);
        }
}

template <class C> void expect_combined(Quantization how, Type operand, std::size_t count, std::mt19937_64 &random) {
    const auto bytes = packed(how, normal<C>(count, 0, 2, random()));
    const auto own = reference::elements(operand, count, random);
    for (const Op op : kAllOps)
        on_every_target([&](std::int64_t) {
            std::vector<C> unpacked(count), out(count), want(count);
            dequantize(how, operand, unpacked.data(), bytes.data(), count);
            for (std::size_t i = 0; i < count; ++i)
                want[i] = reference::combine_floats(op, unpacked[i],
                                                    static_cast<C>(operand_value(operand, own.data() + i * size_of(operand))));
            dequantize_combine(how, operand, op, out.data(), bytes.data(), own.data(), count);
            ASSERT_TRUE(same_bits(out, want)) << describe(how, operand, count) << " " << name_of(op);
            if (operand != type_of<C>) return;
            auto in_place = own;
            dequantize_combine(how, operand, op, in_place.data(), bytes.data(), in_place.data(), count);
            ASSERT_EQ(std::memcmp(in_place.data(), want.data(), count * sizeof(C)), 0) << "in place";
        });
}

TEST(KernelQuantize, DequantizeCombineIsDequantizeThenCombine) {
    std::mt19937_64 random(kSeed + 8);
    for (const Quantization how : all_quantizations())
        for (const std::size_t count : {1, 100, 256, 600}) {
            expect_combined<float>(how, Type::f16, count, random);
            expect_combined<float>(how, Type::bf16, count, random);
            expect_combined<float>(how, Type::f32, count, random);
            expect_combined<double>(how, Type::f64, count, random);
        }
}

TEST(KernelQuantize, DequantizeOutputRoundsToTheOperandType) {
    for (const Quantization how : all_quantizations())
        for (const Type operand : {Type::f16, Type::bf16})
            for (const std::size_t count : {1, 256, 600}) {
                const auto bytes = packed(how, normal<float>(count, 0, 30000, kSeed));
                on_every_target([&](std::int64_t) {
                    std::vector<float> wide(count);
                    std::vector<std::uint16_t> out(count);
                    dequantize(how, operand, wide.data(), bytes.data(), count);
                    dequantize_output(how, operand, out.data(), bytes.data(), count);
                    for (std::size_t i = 0; i < count; ++i)
                        ASSERT_EQ(out[i], reference::encode(reference::format_of(operand), wide[i]));
                });
            }
}

TEST(KernelQuantize, ScaleAverageDividesForAvgOnlyInTheComputeType) {
    std::vector<float> values{3, 1, -7, 1e-40f};
    const std::vector<float> want{1, 1.0f / 3, -7.0f / 3, 1e-40f / 3};
    scale_average(Type::bf16, Op::sum, values.data(), values.size(), 3);
    EXPECT_EQ(values[0], 3);
    scale_average(Type::bf16, Op::avg, values.data(), values.size(), 3);
    EXPECT_EQ(values, want);
    std::vector<double> wide{10, -1};
    scale_average(Type::f64, Op::avg, wide.data(), wide.size(), 3);
    EXPECT_EQ(wide, (std::vector<double>{10.0 / 3, -1.0 / 3}));
}

TEST(KernelQuantize, RequantizeEqualsItsStepsInSequence) {
    auto all = all_quantizations();
    all.push_back({Quant::block_scale, Type::i8, 32, Scale::floating});
    all.push_back({Quant::block_scale, Type::i4, 512, Scale::power_of_two});
    all.push_back({Quant::block_scale, Type::u4, 32, Scale::power_of_two});
    all.push_back({Quant::block_scale, Type::u2, 512, Scale::floating});
    for (const Quantization how : all)
        for (const std::size_t count : {1, 300, 2048, 5000}) {
            const auto bytes = packed(how, normal<float>(count, 0, 1, kSeed));
            const auto own = normal<float>(count, 0, 3, kSeed + 1);
            std::vector<float> sum(count), want(count), got(count);
            dequantize_combine(how, Type::f32, Op::avg, sum.data(), bytes.data(), own.data(), count);
            auto partial = bytes;
            requantize(how, Type::f32, Op::avg, partial.data(), own.data(), count);
            EXPECT_EQ(partial, packed(how, sum)) << describe(how, Type::f32, count);
            scale_average(Type::f32, Op::avg, sum.data(), count, 3);
            dequantize_output(how, Type::f32, want.data(), packed(how, sum).data(), count);
            auto final = bytes;
            requantize_final(how, Type::f32, Op::avg, final.data(), own.data(), got.data(), count, 3);
            EXPECT_EQ(final, packed(how, sum)) << describe(how, Type::f32, count);
            EXPECT_EQ(got, want) << describe(how, Type::f32, count);
        }
}

/// Relative L2 error of the result that all peers hold after a re-quantizing ring average, compared with the float64 mean.
double ring_error(Quantization how, const std::vector<std::vector<float>> &peers) {
    const std::size_t count = peers[0].size();
    std::vector<std::uint8_t> wire(packed_bytes(how, Type::f32, count));
    std::vector<float> partial(count), result(count);
    quantize_input(how, Type::f32, wire.data(), peers[0].data(), count);
    for (std::size_t k = 1; k < peers.size(); ++k) {
        dequantize_combine(how, Type::f32, Op::avg, partial.data(), wire.data(), peers[k].data(), count);
        if (k + 1 == peers.size())
            scale_average(Type::f32, Op::avg, partial.data(), count, static_cast<std::uint32_t>(peers.size()));
        quantize(how, Type::f32, wire.data(), partial.data(), count);
    }
    dequantize_output(how, Type::f32, result.data(), wire.data(), count);
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < count; ++i) {
        double mean = 0;
        for (const auto &p : peers)
            mean += p[i];
        mean /= static_cast<double>(peers.size());
        error += (result[i] - mean) * (result[i] - mean);
        norm += mean * mean;
    }
    return std::sqrt(error / norm);
}

template <class Make> void expect_ring_error_below(double bar, Make make) {
    std::vector<std::vector<float>> peers;
    for (std::uint64_t k = 0; k < 4; ++k)
        peers.push_back(make(kSeed + k));
    for (const Quant algorithm : {Quant::min_max, Quant::zero_point_scale})
        for (const Type type : {Type::u8, Type::i8}) {
            const double error = ring_error({algorithm, type}, peers);
            EXPECT_LE(error, bar) << describe({algorithm, type}, Type::f32, peers[0].size());
            EXPECT_GT(error, bar / 10);  // a much smaller error means that the test measures something else
            const Type wide = type == Type::u8 ? Type::u16 : Type::i16;
            EXPECT_LE(ring_error({algorithm, wide}, peers), bar / 100);
        }
}

TEST(KernelQuantize, RingOverNormalDataErrsByLessThan12Thousandths) {
    expect_ring_error_below(0.012, [](std::uint64_t seed) { return normal<float>(262144, 0, 1, seed); });
}

TEST(KernelQuantize, RingOverOffsetDataKeepsFullResolution) {
    expect_ring_error_below(0.00012, [](std::uint64_t seed) { return normal<float>(262144, 10, 0.1, seed); });
}

TEST(KernelQuantize, RingOverNegativeDataKeepsFullResolution) {
    expect_ring_error_below(0.0004, [](std::uint64_t seed) { return uniform<float>(262144, -11, -10, seed); });
}

TEST(KernelQuantize, RoundingHasNoBias) {
    const auto values = normal<float>(262144, 0, 1, kSeed);
    for (const Quantization how : all_quantizations()) {
        const auto back = round_trip(how, values);
        double bias = 0;
        for (std::size_t i = 0; i < values.size(); ++i)
            bias += static_cast<double>(back[i]) - values[i];
        const double allowed = how.type == Type::u2 ? 4e-3 : how.type == Type::u4 ? 5e-4 : 5e-5;
        EXPECT_LT(std::abs(bias / 262144), allowed) << describe(how, Type::f32, values.size());
    }
}

}  // namespace
}  // namespace pccl::kernel
