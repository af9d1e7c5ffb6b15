// Quant::block_scale on every instruction set: comparison with a direct implementation of quantize.h, one element at a time;
// equal bytes on all of them; blocks at the limits of the float formats; and bytes that no sender produces.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernel/quantize.h"
#include "kernel/reduce.h"
#include "unit/kernel_reference.h"
#include "unit/kernel_targets.h"

namespace pccl::kernel {
namespace {

constexpr std::uint64_t kSeed = 88001;

std::vector<Quantization> all_block_scales() {
    std::vector<Quantization> all;
    for (const Type type : {Type::i8, Type::i4, Type::u4, Type::u2})
        for (const Scale scale : {Scale::floating, Scale::power_of_two})
            for (std::uint16_t block = kMinScaleBlock; block <= kMaxScaleBlock; block = static_cast<std::uint16_t>(2 * block))
                all.push_back({Quant::block_scale, type, block, scale});
    return all;
}

std::string describe(Quantization how) {
    return std::string(name_of(how.type)) + (how.scale == Scale::floating ? " floating " : " powers ") +
           std::to_string(how.block);
}

template <class C> constexpr Type type_of = sizeof(C) == 8 ? Type::f64 : Type::f32;
template <class C> constexpr int kLargestExponent = sizeof(C) == 8 ? 1023 : 127;

bool has_signed_scale(Quantization how) { return how.type == Type::u4 || how.type == Type::u2; }

long double largest_code(Quantization how) {
    switch (how.type) {
    case Type::i8: return 127;
    case Type::i4: return 7;
    case Type::u4: return 8;
    default: return 2;
    }
}

/// The sign of a signed scale: the element of largest magnitude gets the code -largest_code(). In a tie it is the positive
/// element.
template <class C> long double sign_of_scale(Quantization how, const C *block, std::size_t count, C m) {
    return has_signed_scale(how) && std::find(block, block + count, m) != block + count ? -1 : 1;
}

/// The scale that quantize.h prescribes for a block whose largest magnitude is m.
template <class C> long double plain_scale(Quantization how, C m) {
    using Number = std::numeric_limits<C>;
    if (how.scale == Scale::floating)
        return m == 0 ? 0 : std::max(static_cast<C>(m / static_cast<C>(largest_code(how))), Number::min());
    // The scale of the signed formats is limited only by the range of C.
    const int lowest = Number::min_exponent - 1,
              highest = has_signed_scale(how) ? kLargestExponent<C> : kLargestExponent<C> - (how.type == Type::i8 ? 6 : 2);
    int e = lowest;
    while (e < highest && std::nearbyint(std::ldexp(static_cast<long double>(m), -e)) > largest_code(how))
        ++e;
    return std::ldexp(1.0L, e);
}

/// Checks the result of packing and unpacking. With a floating scale, an element at a tie, or as close to a tie as the rounding
/// error of a factor, may be rounded in either direction.
template <class C> void expect_block(Quantization how, const C *block, const C *back, std::size_t count) {
    C m = 0;
    for (std::size_t i = 0; i < count; ++i)
        m = std::max(m, std::abs(block[i]));
    const long double scale = plain_scale(how, m) * sign_of_scale(how, block, count, m);
    const long double top = std::numeric_limits<C>::max();
    for (std::size_t i = 0; i < count; ++i) {
        if (scale == 0) {
            ASSERT_EQ(back[i], C(0));
            continue;
        }
        if (block[i] == 0) {
            ASSERT_EQ(back[i], C(0));
            ASSERT_FALSE(std::signbit(back[i]));
            continue;
        }
        const long double codes = static_cast<long double>(block[i]) / scale;
        const long double highest = has_signed_scale(how) ? largest_code(how) - 1 : largest_code(how);
        if (how.scale == Scale::power_of_two) {
            // Only elements near C's lowest number get the lowest code of i8 and i4.
            const long double lowest = has_signed_scale(how) ? -largest_code(how) : -largest_code(how) - 1;
            const long double code = std::clamp(std::nearbyint(codes), lowest, highest);
            ASSERT_EQ(static_cast<long double>(back[i]), std::clamp(code * scale, -top, top))
                << describe(how) << " " << i << ": " << block[i];
        } else {
            // An element beyond the highest code by more than half of the scale gets the highest code.
            const long double allowed = std::max(0.5L, codes - highest) + 300 * std::numeric_limits<C>::epsilon();
            const long double error = std::abs((static_cast<long double>(back[i]) - block[i]) / scale);
            ASSERT_LE(error, allowed) << describe(how) << " " << i << ": " << block[i] << " -> " << back[i];
        }
    }
}

template <class C> std::vector<std::uint8_t> packed(Quantization how, const C *values, std::size_t count) {
    std::vector<std::uint8_t> bytes(packed_bytes(how, type_of<C>, count));
    quantize(how, type_of<C>, bytes.data(), values, count);
    return bytes;
}

template <class C> void expect_round_trip(Quantization how, const std::vector<C> &values) {
    std::vector<std::uint8_t> first;
    on_every_target([&](std::int64_t) {
        const auto bytes = packed(how, values.data(), values.size());
        if (first.empty()) first = bytes;
        ASSERT_EQ(bytes, first) << describe(how) << " " << values.size();
        std::vector<C> back(values.size());
        dequantize(how, type_of<C>, back.data(), bytes.data(), values.size());
        for (std::size_t i = 0; i < values.size(); i += how.block)
            expect_block(how, values.data() + i, back.data() + i, std::min<std::size_t>(how.block, values.size() - i));
    });
}

template <class C> std::vector<C> normal(std::size_t count, double deviation, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> distribution(0, deviation);
    std::vector<C> values(count);
    for (C &v : values)
        v = static_cast<C>(distribution(random));
    return values;
}

TEST(KernelBlockScale, ReturnsEveryElementWithinHalfAStep) {
    for (const Quantization how : all_block_scales())
        for (const std::size_t count : test_counts()) {
            ASSERT_NO_FATAL_FAILURE(expect_round_trip(how, normal<float>(count, 1, kSeed + count)));
            if (count % 16 != 1) continue;
            ASSERT_NO_FATAL_FAILURE(expect_round_trip(how, normal<double>(count, 3, kSeed + count)));
        }
}

template <class C> void expect_edges() {
    using Number = std::numeric_limits<C>;
    for (const C edge : {C(0), Number::denorm_min(), 77 * Number::denorm_min(), Number::min(), 126 * Number::min(),
                         128 * Number::min(), C(1e-30), C(127), C(127.5), C(127.49), C(7.5), C(63.75), C(1), C(1e30),
                         Number::max() / 2, Number::max(), Number::lowest()})
        for (const Quantization how : all_block_scales()) {
            std::vector<C> values(700, C(0));
            expect_round_trip(how, values);
            for (std::size_t i = 0; i < values.size(); ++i)
                values[i] = edge / static_cast<C>(1 + i % 97) * (i % 3 == 0 ? -1 : 1);
            ASSERT_NO_FATAL_FAILURE(expect_round_trip(how, values)) << edge;
            values.assign(700, edge);
            ASSERT_NO_FATAL_FAILURE(expect_round_trip(how, values)) << edge;
            values.assign(700, C(0));
            values[650] = edge;  // a single outlier, in the last, shorter block
            ASSERT_NO_FATAL_FAILURE(expect_round_trip(how, values)) << edge;
        }
}

TEST(KernelBlockScale, HoldsItsErrorForExtremeBlocks) {
    expect_edges<float>();
    expect_edges<double>();
}

TEST(KernelBlockScale, PowersOfTwoScaleExactly) {
    const auto values = normal<float>(1000, 1, kSeed);
    for (const Quantization how : all_block_scales()) {
        if (how.scale != Scale::power_of_two) continue;
        const auto scaled = [&](float by) {
            std::vector<float> in = values, out(values.size());
            for (float &v : in)
                v *= by;
            dequantize(how, Type::f32, out.data(), packed(how, in.data(), in.size()).data(), in.size());
            for (float &v : out)
                v /= by;
            return out;
        };
        EXPECT_EQ(scaled(0x1p40f), scaled(1)) << describe(how);
        EXPECT_EQ(scaled(0x1p-40f), scaled(1)) << describe(how);
    }
}

TEST(KernelBlockScale, SignedScalesKeepConstantsAndTheLargest) {
    for (const Quantization how : all_block_scales()) {
        if (!has_signed_scale(how) || how.scale != Scale::floating) continue;
        for (const float constant : {3.0f, -3.0f, 0.1f, -0.1f, 3e38f, -3e38f}) {
            const std::vector<float> values(700, constant);
            std::vector<float> back(values.size());
            dequantize(how, Type::f32, back.data(), packed(how, values.data(), values.size()).data(), back.size());
            EXPECT_EQ(back, values) << describe(how) << " " << constant;
        }
        auto values = normal<float>(1024, 1, kSeed);
        std::vector<float> back(values.size());
        dequantize(how, Type::f32, back.data(), packed(how, values.data(), values.size()).data(), back.size());
        for (std::size_t i = 0; i < values.size(); i += how.block) {
            const auto largest = std::max_element(values.begin() + static_cast<std::ptrdiff_t>(i),
                                                  values.begin() + static_cast<std::ptrdiff_t>(i + how.block),
                                                  [](float a, float b) { return std::abs(a) < std::abs(b); });
            EXPECT_EQ(back[static_cast<std::size_t>(largest - values.begin())], *largest) << describe(how);
        }
    }
}

TEST(KernelBlockScale, PositiveElementSetsTheSignInATie) {
    for (const Type type : {Type::u4, Type::u2})
        for (const Scale scale : {Scale::floating, Scale::power_of_two})
            on_every_target([&](std::int64_t) {
                const Quantization how{Quant::block_scale, type, 32, scale};
                std::vector<float> values(32, 0.0f), back(32);
                values[30] = 4;
                values[3] = -4;
                dequantize(how, Type::f32, back.data(), packed(how, values.data(), values.size()).data(), back.size());
                EXPECT_EQ(back[30], 4) << describe(how);
                EXPECT_EQ(back[3], type == Type::u4 ? -3.5f : -2.0f) << describe(how);
                EXPECT_EQ(back[0], 0) << describe(how);
            });
}

TEST(KernelBlockScale, SmallIntegersAreExact) {
    std::vector<float> values(512);
    for (const Quantization how : all_block_scales()) {
        const int top = static_cast<int>(largest_code(how)), lowest = has_signed_scale(how) ? 1 - top : -top;
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<float>(static_cast<int>(i) % (top - lowest + 1) + lowest);
        for (std::size_t i = 0; i < values.size(); i += 32)
            values[i] = static_cast<float>(top);
        std::vector<float> back(values.size());
        dequantize(how, Type::f32, back.data(), packed(how, values.data(), values.size()).data(), values.size());
        EXPECT_EQ(back, values) << describe(how);
    }
}

TEST(KernelBlockScale, NanOrInfinityMakesOnlyItsBlockNan) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()})
        for (const Quantization how : all_block_scales())
            for (std::size_t where = 3; where < 1200; where += 101)
                on_every_target([&](std::int64_t) {
                    auto values = normal<float>(1200, 1, kSeed);
                    values[where] = bad;
                    std::vector<float> back(values.size());
                    dequantize(how, Type::f32, back.data(), packed(how, values.data(), values.size()).data(), values.size());
                    for (std::size_t i = 0; i < back.size(); ++i)
                        ASSERT_EQ(std::isnan(back[i]), i / how.block == where / how.block) << describe(how) << " " << i;
                });
}

/// The formulas of quantize.h for received bytes.
template <class C> std::vector<C> plain_dequantize(Quantization how, const std::vector<std::uint8_t> &bytes, std::size_t count) {
    const bool wide = sizeof(C) == 8;
    const std::size_t size = how.scale == Scale::floating ? sizeof(C) : wide || has_signed_scale(how) ? 2 : 1;
    const std::size_t per_byte = how.type == Type::i8 ? 1 : how.type == Type::u2 ? 4 : 2;
    const std::size_t whole_unit = 512 / how.block * size + 512 / per_byte;
    const C top = std::numeric_limits<C>::max();
    std::vector<C> out;
    for (std::size_t k = 0; k < count; ++k) {
        const std::size_t i = k % 512, in_unit = std::min<std::size_t>(512, count - (k - i));
        const std::uint8_t *const unit = bytes.data() + k / 512 * whole_unit;
        const std::uint8_t *at = unit + i / how.block * size;
        long double scale = 0;
        bool nan = false;
        if (how.scale == Scale::floating) {
            const C wire = reference::read<C>(at);
            nan = !std::isfinite(wire);
            scale = wire;
        } else if (has_signed_scale(how)) {
            std::uint8_t whole[sizeof(C)] = {};
            std::memcpy(whole + sizeof(C) - 2, at, 2);
            const C wire = reference::read<C>(whole);
            nan = !std::isfinite(wire);
            scale = wire;
        } else {
            const int digits = how.type == Type::i8 ? 6 : 2;
            const int exponent = wide ? reference::read<std::uint16_t>(at) : *at;
            nan = exponent > 2 * kLargestExponent<C>;
            scale = std::ldexp(1.0L, std::max(exponent, digits + 1) - kLargestExponent<C> - digits);
        }
        const std::uint8_t *codes = unit + (in_unit + how.block - 1) / how.block * size;
        int code = 0;
        switch (how.type) {
        case Type::i8: code = static_cast<std::int8_t>(codes[i]); break;
        case Type::u2: code = (codes[i / 4] >> i % 4 * 2 & 3) - 2; break;
        default: code = codes[i / 2] >> i % 2 * 4 & 0xF; break;
        }
        if (how.type == Type::i4 && code > 7) code -= 16;
        if (how.type == Type::u4) code -= 8;
        const long double exact = std::clamp<long double>(code * scale, -static_cast<long double>(top), top);
        out.push_back(nan ? reference::canonical(std::numeric_limits<C>::quiet_NaN()) : static_cast<C>(exact));
    }
    return out;
}

template <class C> void expect_any_bytes_read_alike() {
    std::mt19937_64 random(kSeed + 5);
    const auto all = all_block_scales();
    for (int round = 0; round < 2000; ++round) {
        const Quantization how = all[static_cast<std::size_t>(round) % all.size()];
        const std::size_t count = 1 + random() % 700;
        std::vector<std::uint8_t> bytes(packed_bytes(how, type_of<C>, count));
        for (auto &b : bytes)
            b = static_cast<std::uint8_t>(random() % 3 == 0 ? 0x80 | random() : random());
        if (round % 3 == 0 && how.scale == Scale::floating) {
            const auto odd = reference::elements(type_of<C>, 1, random);
            std::memcpy(bytes.data(), odd.data(), sizeof(C));
        }
        const auto want = plain_dequantize<C>(how, bytes, count);
        on_every_target([&](std::int64_t) {
            std::vector<C> out(count);
            dequantize(how, type_of<C>, out.data(), bytes.data(), count);
            for (std::size_t i = 0; i < count; ++i)
                ASSERT_TRUE(std::memcmp(&out[i], &want[i], sizeof(C)) == 0 || (out[i] == 0 && want[i] == 0))
                    << describe(how) << " " << i << ": " << out[i] << ", not " << want[i];
        });
        if (testing::Test::HasFatalFailure()) return;
    }
}

TEST(KernelBlockScale, AnyBytesUnpackAsDocumented) {
    expect_any_bytes_read_alike<float>();
    expect_any_bytes_read_alike<double>();
}

TEST(KernelBlockScale, PackedBytesCountsScalesAndCodes) {
    const Quantization bytes{Quant::block_scale, Type::i8, 32, Scale::floating},
        nibbles{Quant::block_scale, Type::i4, 512, Scale::power_of_two};
    EXPECT_EQ(packed_bytes(bytes, Type::f32, 0), 0u);
    EXPECT_EQ(packed_bytes(bytes, Type::bf16, 1), 5u);
    EXPECT_EQ(packed_bytes(bytes, Type::f32, 33), 8u + 33u);
    EXPECT_EQ(packed_bytes(bytes, Type::f64, 32), 8u + 32u);
    EXPECT_EQ(packed_bytes(nibbles, Type::f32, 513), 2u + 257u);
    EXPECT_EQ(packed_bytes(nibbles, Type::f64, 512), 2u + 256u);
    const Quantization pairs{Quant::block_scale, Type::u2, 32, Scale::floating},
        powers{Quant::block_scale, Type::u2, 32, Scale::power_of_two};
    EXPECT_EQ(packed_bytes(pairs, Type::f32, 1), 4u + 1u);
    EXPECT_EQ(packed_bytes(pairs, Type::f32, 37), 8u + 10u);
    EXPECT_EQ(packed_bytes(pairs, Type::f64, 512), 16 * 8u + 128u);
    EXPECT_EQ(packed_bytes(powers, Type::f32, 64), 4u + 16u);
    EXPECT_EQ(packed_bytes(powers, Type::f64, 64), 4u + 16u);
    EXPECT_EQ(packed_bytes({Quant::block_scale, Type::u4, 64, Scale::power_of_two}, Type::f32, 65), 4u + 33u);
}

TEST(KernelBlockScale, OtherOperandTypesUseTheComputeType) {
    std::mt19937_64 random(kSeed + 6);
    for (const Quantization how : all_block_scales())
        for (const Type operand : {Type::f16, Type::bf16, Type::f32, Type::f64})
            for (const std::size_t count : {0, 1, 7, 257, 515, 1025}) {
                const std::size_t offset = random() % 64;
                const Type compute = compute_type(operand);
                const auto in = reference::elements(operand, count, random);
                on_every_target([&](std::int64_t) {
                    Buffer from(in.size(), offset), wire(packed_bytes(how, operand, count), (offset * 5 + 1) % 64);
                    Buffer wide(count * size_of(compute), (offset * 3 + 1) % 64), output(in.size(), (offset + 9) % 64);
                    from.assign(in);
                    quantize_input(how, operand, wire.data(), from.data(), count);
                    dequantize(how, operand, wide.data(), wire.data(), count);
                    dequantize_output(how, operand, output.data(), wire.data(), count);
                    ASSERT_TRUE(wire.guards_hold() && wide.guards_hold() && output.guards_hold());
                    Buffer narrowed(in.size()), combined(wide.size(), offset), sum(wide.size());
                    finish(operand, Op::sum, narrowed.data(), wide.data(), count, 1);
                    ASSERT_EQ(narrowed.contents(), output.contents()) << describe(how) << name_of(operand);
                    dequantize_combine(how, operand, Op::sum, combined.data(), wire.data(), from.data(), count);
                    combine({operand, Op::sum, false, true}, sum.data(), wide.data(), from.data(), count);
                    ASSERT_EQ(combined.contents(), sum.contents()) << describe(how) << name_of(operand) << " " << count;
                    ASSERT_TRUE(combined.guards_hold());
                });
            }
}

/// Relative L2 error of a mean over peers, if each contribution is quantized once and then the mean is quantized.
double one_hop_error(Quantization how, std::size_t peers) {
    constexpr std::size_t kCount = 262144;
    std::vector<double> mean(kCount, 0), sum(kCount, 0);
    std::vector<float> back(kCount);
    for (std::size_t p = 0; p < peers; ++p) {
        const auto values = normal<float>(kCount, 1, kSeed + p);
        dequantize(how, Type::f32, back.data(), packed(how, values.data(), kCount).data(), kCount);
        for (std::size_t i = 0; i < kCount; ++i) {
            mean[i] += values[i] / static_cast<double>(peers);
            sum[i] += back[i] / static_cast<double>(peers);
        }
    }
    const std::vector<float> result(sum.begin(), sum.end());
    dequantize(how, Type::f32, back.data(), packed(how, result.data(), kCount).data(), kCount);
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < kCount; ++i) {
        error += (back[i] - mean[i]) * (back[i] - mean[i]);
        norm += mean[i] * mean[i];
    }
    return std::sqrt(error / norm);
}

TEST(KernelBlockScale, ErrorOfAMeanDoesNotGrowWithThePeers) {
    for (const Scale scale : {Scale::floating, Scale::power_of_two}) {
        const Quantization bytes{Quant::block_scale, Type::i8, 32, scale}, nibbles{Quant::block_scale, Type::i4, 32, scale};
        EXPECT_LE(one_hop_error(bytes, 8), 0.012);
        EXPECT_LE(one_hop_error(nibbles, 8), 0.21);
        const double spread = scale == Scale::floating ? 0.03 : 0.1;
        EXPECT_NEAR(one_hop_error(bytes, 8) / one_hop_error(bytes, 2), 1, spread);
        EXPECT_NEAR(one_hop_error(nibbles, 8) / one_hop_error(nibbles, 2), 1, spread);
    }
    EXPECT_LE(one_hop_error({Quant::block_scale, Type::i8, 32, Scale::floating}, 8), 0.008);
    // u4 reserves a code for the element of largest magnitude, so its error is smaller than that of i4 with the same bits.
    EXPECT_LE(one_hop_error({Quant::block_scale, Type::u4, 32, Scale::floating}, 8), 0.125);
    EXPECT_LE(one_hop_error({Quant::block_scale, Type::u2, 32, Scale::floating}, 8), 0.52);
    EXPECT_NEAR(one_hop_error({Quant::block_scale, Type::u2, 32, Scale::floating}, 8) /
                    one_hop_error({Quant::block_scale, Type::u2, 32, Scale::floating}, 2),
                1, 0.04);
}

TEST(KernelBlockScale, RoundingHasNoBias) {
    const auto values = normal<float>(262144, 1, kSeed);
    std::vector<float> back(values.size());
    for (const Quantization how : all_block_scales()) {
        dequantize(how, Type::f32, back.data(), packed(how, values.data(), values.size()).data(), values.size());
        double bias = 0;
        for (std::size_t i = 0; i < values.size(); ++i)
            bias += static_cast<double>(back[i]) - values[i];
        EXPECT_LT(std::abs(bias / 262144), how.type == Type::i8 ? 1e-4 : how.type == Type::u2 ? 5e-3 : 1.5e-3) << describe(how);
    }
}

}  // namespace
}  // namespace pccl::kernel
