// Kernels give the same bits under every floating-point mode of the caller.
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernel/finite.h"
#include "kernel/quantize.h"
#include "kernel/reduce.h"
#include "unit/float_modes.h"
#include "unit/kernel_targets.h"

namespace pccl::kernel {
namespace {

using test::Bits;
using test::expect_same_bits_in_every_mode;

constexpr std::size_t kCount = 1100;  // more than two blocks of every block size

/// Normal and denormal numbers whose sums and products include denormal, inexact and overflowing results.
template <class T> std::vector<T> values(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<T> out(kCount);
    for (std::size_t i = 0; i < out.size(); ++i) {
        const T unit = i < kCount / 3   ? std::numeric_limits<T>::denorm_min() * T(1000)
                       : i < kCount / 2 ? std::numeric_limits<T>::min()
                                        : T(1) / T(3);
        out[i] = (static_cast<T>(random() % 2001) - T(1000)) * unit;
    }
    return out;
}

/// The numbers converted to `type`. The library itself converts 16-bit floats, in the default mode.
Bits elements(Type type, std::uint64_t seed) {
    Bits out(kCount * size_of(type));
    if (type == Type::f64) {
        std::memcpy(out.data(), values<double>(seed).data(), out.size());
    } else if (type == Type::f32) {
        std::memcpy(out.data(), values<float>(seed).data(), out.size());
    } else {
        auto from = values<float>(seed);
        for (std::size_t i = 0; i < kCount / 3; ++i)
            from[i] = static_cast<float>(static_cast<int>(i % 200) - 100) *
                      (type == Type::f16 ? 0x1p-24F : 0x1p-133F);  // their denormals
        finish(type, Op::sum, out.data(), from.data(), kCount, 1);
    }
    return out;
}

constexpr Type kFloats[] = {Type::f16, Type::bf16, Type::f32, Type::f64};

TEST(KernelFloatMode, DoesNotChangeCombinations) {
    on_every_target([](std::int64_t) {
        for (const Type type : kFloats) {
            const Bits a = elements(type, 1), b = elements(type, 2);
            for (const Op op : {Op::sum, Op::avg, Op::prod, Op::max, Op::min}) {
                const Type wide = accumulator(type, op);
                expect_same_bits_in_every_mode(std::string("combine ") + name_of(type) + " " + name_of(op), [&] {
                    Bits sum(kCount * size_of(wide)), out(kCount * size_of(type));
                    combine({type, op, true, true}, sum.data(), a.data(), b.data(), kCount);
                    finish(type, op, out.data(), sum.data(), kCount, 3);
                    Bits widened(kCount * size_of(wide));
                    widen(type, op, widened.data(), out.data(), kCount);
                    sum.insert(sum.end(), out.begin(), out.end());
                    sum.insert(sum.end(), widened.begin(), widened.end());
                    return sum;
                });
            }
        }
    });
}

std::vector<Quantization> quantizations() {
    std::vector<Quantization> out;
    for (const Quant algorithm : {Quant::min_max, Quant::zero_point_scale})
        for (const Type type : {Type::u8, Type::i16})
            out.push_back({algorithm, type});
    for (const Type type : {Type::i8, Type::i4})
        for (const Scale scale : {Scale::floating, Scale::power_of_two})
            out.push_back({Quant::block_scale, type, 32, scale});
    return out;
}

TEST(KernelFloatMode, DoesNotChangeQuantization) {
    on_every_target([](std::int64_t) {
        for (const Type type : kFloats) {
            const Bits a = elements(type, 3), b = elements(type, 4);
            const std::size_t wide = size_of(compute_type(type));
            for (const Quantization how : quantizations()) {
                expect_same_bits_in_every_mode(
                    std::string("quantize ") + name_of(type) + " algorithm " + std::to_string(static_cast<int>(how.algorithm)),
                    [&] {
                        const std::size_t bytes = packed_bytes(how, type, kCount);
                        Bits packed(bytes), back(kCount * wide), residual(kCount * wide), lost(kCount * wide),
                            out(kCount * size_of(type));
                        std::memset(residual.data(), 0, residual.size());
                        const Feedback feedback{residual.data(), lost.data()};
                        quantize_input(how, type, packed.data(), a.data(), kCount, feedback);
                        dequantize(how, type, back.data(), packed.data(), kCount);
                        requantize(how, type, Op::avg, packed.data(), b.data(), kCount, feedback);
                        requantize_final(how, type, Op::avg, packed.data(), b.data(), out.data(), kCount, 3, feedback);
                        for (const Bits *part : {&back, &lost, &out})
                            packed.insert(packed.end(), part->begin(), part->end());
                        return packed;
                    });
            }
        }
    });
}

template <class T> void expect_found(Type type) {
    const T bad[] = {std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity(), std::numeric_limits<T>::quiet_NaN(),
                     std::numeric_limits<T>::signaling_NaN()};
    for (const std::size_t count : {1U, 2U, 15U, 16U, 17U, 63U, 64U, 65U, 257U, 1025U}) {
        std::vector<T> x(count, std::numeric_limits<T>::max());
        EXPECT_EQ(first_not_finite(type, x.data(), count), count);
        for (const std::size_t at : {std::size_t{0}, count / 2, count - 1}) {
            for (const T value : bad) {
                const T before = x[at];
                std::memcpy(&x[at], &value, sizeof value);
                EXPECT_EQ(first_not_finite(type, x.data(), count), at) << count;
                x[at] = before;
            }
        }
    }
}

TEST(KernelFinite, FindsTheFirstElementThatIsNot) {
    on_every_target([](std::int64_t) {
        const test::WithFloatControl with(test::trapping_mode());
        expect_found<float>(Type::f32);
        expect_found<double>(Type::f64);
        std::vector<std::uint16_t> halves(100, 0x7BFF), brains(100, 0x7F7F);  // the largest
        EXPECT_EQ(first_not_finite(Type::f16, halves.data(), 100), 100U);
        EXPECT_EQ(first_not_finite(Type::bf16, brains.data(), 100), 100U);
        halves[70] = 0xFC00;
        brains[71] = 0x7FC1;
        EXPECT_EQ(first_not_finite(Type::f16, halves.data(), 100), 70U);
        EXPECT_EQ(first_not_finite(Type::bf16, brains.data(), 100), 71U);
        EXPECT_EQ(first_not_finite(Type::i32, brains.data(), 50), 50U) << "integers are finite";
    });
}

TEST(KernelFinite, ReadsElementsAtAnyAddress) {
    std::vector<std::uint8_t> bytes(4 * 100 + 1, 0);
    const float bad = std::numeric_limits<float>::infinity();
    std::memcpy(bytes.data() + 1 + 4 * 77, &bad, 4);
    EXPECT_EQ(first_not_finite(Type::f32, bytes.data() + 1, 100), 77U);
}

}  // namespace
}  // namespace pccl::kernel
