// Compares combine, finish and widen with the plain reference, bit for bit, on every instruction set.
#include <algorithm>

#include "kernel/reduce.h"
#include "unit/kernel_reference.h"
#include "unit/kernel_targets.h"

namespace pccl::kernel {
namespace {

constexpr std::uint64_t kSeed = 20240607;

struct Case {
    Combine how;
    Type a, b, out;
};

std::vector<Case> combine_cases() {
    std::vector<Case> cases;
    for (int t = 0; t < kTypes; ++t) {
        for (int o = 0; o < kOps; ++o) {
            const auto type = static_cast<Type>(t);
            const auto op = static_cast<Op>(o);
            const Type wide = accumulator(type, op);
            for (int flags = 0; flags < 4; ++flags) {
                const Combine how{type, op, (flags & 1) != 0, (flags & 2) != 0};
                cases.push_back({how, how.a_is_input ? type : wide, how.b_is_input ? type : wide, wide});
            }
        }
    }
    return cases;
}

std::vector<std::uint8_t> expected(const Case &c, const std::vector<std::uint8_t> &a, const std::vector<std::uint8_t> &b,
                                   std::size_t count) {
    std::vector<std::uint8_t> out(count * size_of(c.out));
    for (std::size_t i = 0; i < count; ++i)
        reference::combine(c.how.op, c.how.type, c.out, out.data() + i * size_of(c.out), c.a, a.data() + i * size_of(c.a), c.b,
                           b.data() + i * size_of(c.b));
    return out;
}

std::string describe(const Case &c, std::size_t count) {
    return std::string(name_of(c.how.type)) + " " + name_of(c.how.op) + " a " + name_of(c.a) + " b " + name_of(c.b) + " count " +
           std::to_string(count);
}

TEST(KernelCombine, EqualsThePlainReferenceInEveryCase) {
    std::mt19937_64 random(kSeed);
    for (const Case &c : combine_cases()) {
        const bool repeats = c.how.a_is_input != c.how.b_is_input && c.a == c.b;  // another case has the same types
        if (repeats) continue;
        for (const std::size_t count : test_counts()) {
            const auto a = reference::elements(c.a, count, random);
            const auto b = reference::elements(c.b, count, random);
            const auto want = expected(c, a, b, count);
            const std::size_t offset = random() % 64;
            on_every_target([&](std::int64_t) {
                Buffer in_a(a.size(), offset), in_b(b.size(), (offset * 7 + 1) % 64), out(want.size(), (offset * 3 + 2) % 64);
                in_a.assign(a);
                in_b.assign(b);
                combine(c.how, out.data(), in_a.data(), in_b.data(), count);
                ASSERT_EQ(out.contents(), want) << describe(c, count);
                ASSERT_TRUE(out.guards_hold()) << describe(c, count);
            });
            if (HasFatalFailure()) return;
        }
    }
}

TEST(KernelCombine, MayOverwriteEitherOperandOfTheSameSize) {
    std::mt19937_64 random(kSeed + 1);
    for (const Case &c : combine_cases()) {
        for (const std::size_t count : {1, 5, 63, 64, 257, 4099}) {
            const auto a = reference::elements(c.a, count, random);
            const auto b = reference::elements(c.b, count, random);
            const auto want = expected(c, a, b, count);
            on_every_target([&](std::int64_t) {
                Buffer in_a(a.size(), 1), in_b(b.size(), 3);
                in_a.assign(a);
                in_b.assign(b);
                if (size_of(c.a) == size_of(c.out)) {
                    combine(c.how, in_a.data(), in_a.data(), in_b.data(), count);
                    ASSERT_EQ(in_a.contents(), want) << describe(c, count);
                    in_a.assign(a);
                }
                if (size_of(c.b) == size_of(c.out)) {
                    combine(c.how, in_b.data(), in_a.data(), in_b.data(), count);
                    ASSERT_EQ(in_b.contents(), want) << describe(c, count);
                }
            });
            if (HasFatalFailure()) return;
        }
    }
}

TEST(KernelCombine, TwoNansGiveTheOneQuietNanWhateverTheirPayloads) {
    const std::uint32_t nans[] = {0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF, 0x7FC01234, 0xFF812345};
    on_every_target([&](std::int64_t) {
        for (const std::uint32_t a : nans)
            for (const std::uint32_t b : nans)
                for (int o = 0; o < kOps; ++o) {
                    std::uint32_t out = 0;
                    combine({Type::f32, static_cast<Op>(o), false, false}, &out, &a, &b, 1);
                    ASSERT_EQ(out, 0x7FC00000u) << name_of(static_cast<Op>(o));
                }
    });
}

TEST(KernelHalf, EveryPatternWidensExactly) {
    std::vector<std::uint16_t> all(65536);
    for (std::size_t i = 0; i < all.size(); ++i)
        all[i] = static_cast<std::uint16_t>(i);
    for (const Type type : {Type::f16, Type::bf16}) {
        on_every_target([&](std::int64_t) {
            std::vector<float> out(all.size());
            widen(type, Op::sum, out.data(), all.data(), all.size());
            for (std::size_t i = 0; i < all.size(); ++i) {
                const double want = reference::decode(reference::format_of(type), all[i]);
                if (std::isnan(want)) {
                    // The payload is kept: equal on every target.
                    const std::uint32_t bits = std::bit_cast<std::uint32_t>(out[i]);
                    const std::uint32_t kept = type == Type::bf16 ? static_cast<std::uint32_t>(i) << 16
                                                                  : (i & 0x8000) << 16 | 0x7FC00000u | (i & 0x3FF) << 13;
                    ASSERT_EQ(bits, kept) << name_of(type) << " " << i;
                } else {
                    ASSERT_EQ(std::bit_cast<std::uint32_t>(out[i]), std::bit_cast<std::uint32_t>(static_cast<float>(want))) << i;
                }
            }
        });
    }
}

/// For every half: the half, its neighbouring floats, the tie between it and the next half, and the neighbouring floats of the
/// tie.
std::vector<float> floats_around_halves(Type type) {
    std::vector<float> values;
    for (std::uint32_t i = 0; i < 65536; ++i) {
        const double here = reference::decode(reference::format_of(type), static_cast<std::uint16_t>(i));
        const double next = reference::decode(reference::format_of(type), static_cast<std::uint16_t>(i + 1));
        for (const float v : {static_cast<float>(here), static_cast<float>((here + next) / 2)}) {
            values.push_back(v);
            values.push_back(std::nextafter(v, -INFINITY));
            values.push_back(std::nextafter(v, INFINITY));
        }
    }
    values.insert(values.end(), {65519.996f, 65520.0f, 3.3961775e38f, 3.4e38f, 1e-45f, -1e-45f});
    return values;
}

TEST(KernelHalf, NarrowingRoundsToNearestEvenAtEveryValueAndTie) {
    std::mt19937_64 random(kSeed + 2);
    for (const Type type : {Type::f16, Type::bf16}) {
        std::vector<float> values = floats_around_halves(type);
        for (int i = 0; i < 200000; ++i)
            values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
        on_every_target([&](std::int64_t) {
            std::vector<std::uint16_t> out(values.size());
            finish(type, Op::sum, out.data(), values.data(), values.size(), 1);
            for (std::size_t i = 0; i < values.size(); ++i)
                ASSERT_EQ(out[i], reference::encode(reference::format_of(type), values[i])) << name_of(type) << " " << values[i];
        });
    }
}

std::vector<std::uint32_t> divisors() {
    return {1,   2,    3,     5,     7,     8,     10,    100,     127,        128,        129,        255,       256,
            257, 1000, 32767, 32768, 65535, 65536, 65537, 1000003, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF};
}

TEST(KernelFinish, AverageDividesAsTheReferenceDoesInPlaceOrNot) {
    std::mt19937_64 random(kSeed + 3);
    for (int t = 0; t < kTypes; ++t) {
        const auto type = static_cast<Type>(t);
        const Type wide = accumulator(type, Op::avg);
        std::vector<std::uint32_t> all = divisors();
        for (const std::size_t count : test_counts()) {
            const std::uint32_t divisor = all[count % all.size()];
            const auto in = reference::elements(wide, count, random);
            std::vector<std::uint8_t> want(count * size_of(type));
            for (std::size_t i = 0; i < count; ++i)
                reference::average(type, want.data() + i * size_of(type), in.data() + i * size_of(wide), divisor);
            on_every_target([&](std::int64_t) {
                Buffer from(in.size(), count % 13), to(want.size(), count % 7);
                from.assign(in);
                finish(type, Op::avg, to.data(), from.data(), count, divisor);
                ASSERT_EQ(to.contents(), want) << name_of(type) << " count " << count << " divisor " << divisor;
                ASSERT_TRUE(to.guards_hold());
                finish(type, Op::avg, from.data(), from.data(), count, divisor);
                auto in_place = from.contents();
                in_place.resize(want.size());
                ASSERT_EQ(in_place, want) << name_of(type) << " in place, count " << count << " divisor " << divisor;
                ASSERT_TRUE(from.guards_hold());
            });
            if (HasFatalFailure()) return;
        }
    }
}

template <class T> void expect_averages(Type type, const std::vector<T> &values) {
    for (const std::uint32_t divisor : divisors()) {
        std::vector<T> want(values.size()), out(values.size());
        for (std::size_t i = 0; i < values.size(); ++i)
            reference::average(type, &want[i], &values[i], divisor);
        on_every_target([&](std::int64_t) {
            finish(type, Op::avg, out.data(), values.data(), values.size(), divisor);
            ASSERT_EQ(out, want) << name_of(type) << " / " << divisor;
        });
    }
}

TEST(KernelFinish, AverageOfNarrowIntegersIsRightForEveryValue) {
    std::vector<std::uint8_t> bytes(256);
    std::vector<std::uint16_t> words(65536);
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<std::uint8_t>(i);
    for (std::size_t i = 0; i < words.size(); ++i)
        words[i] = static_cast<std::uint16_t>(i);
    expect_averages(Type::u8, bytes);
    expect_averages(Type::i8, std::vector<std::int8_t>(bytes.begin(), bytes.end()));
    expect_averages(Type::u16, words);
    expect_averages(Type::i16, std::vector<std::int16_t>(words.begin(), words.end()));
}

TEST(KernelFinish, AverageOfWideIntegersIsRightAroundLimits) {
    std::vector<std::uint64_t> words;
    for (const std::uint32_t divisor : divisors())
        for (const std::uint64_t base : {std::uint64_t{0}, ~std::uint64_t{0} / divisor * divisor, (std::uint64_t{1} << 63),
                                         (std::uint64_t{1} << 32), (std::uint64_t{1} << 31), std::uint64_t{divisor} * 12345})
            for (std::uint64_t delta = 0; delta < 5; ++delta)
                words.push_back(base + delta - 2);
    expect_averages(Type::u64, words);
    expect_averages(Type::i64, std::vector<std::int64_t>(words.begin(), words.end()));
    expect_averages(Type::u32, std::vector<std::uint32_t>(words.begin(), words.end()));
    expect_averages(Type::i32, std::vector<std::int32_t>(words.begin(), words.end()));
}

TEST(KernelFinish, NarrowsOrCopiesForTheOtherOperators) {
    std::mt19937_64 random(kSeed + 4);
    for (int t = 0; t < kTypes; ++t) {
        for (const Op op : {Op::sum, Op::prod, Op::max, Op::min}) {
            const auto type = static_cast<Type>(t);
            const Type wide = accumulator(type, op);
            for (const std::size_t count : {0, 1, 31, 32, 257}) {
                const auto in = reference::elements(wide, count, random);
                std::vector<std::uint8_t> want(in);
                if (wide != type) {
                    want.resize(count * 2);
                    for (std::size_t i = 0; i < count; ++i)
                        reference::write(want.data() + 2 * i, reference::encode(reference::format_of(type),
                                                                                reference::read<float>(in.data() + 4 * i)));
                }
                on_every_target([&](std::int64_t) {
                    Buffer from(in.size(), 1), to(want.size(), 2);
                    from.assign(in);
                    finish(type, op, to.data(), from.data(), count, 9);
                    ASSERT_EQ(to.contents(), want) << name_of(type) << " " << name_of(op);
                    finish(type, op, from.data(), from.data(), count, 9);
                    auto in_place = from.contents();
                    in_place.resize(want.size());
                    ASSERT_EQ(in_place, want) << name_of(type) << " " << name_of(op);
                });
            }
        }
    }
}

TEST(KernelWiden, CopiesWhereTheAccumulatorIsTheTypeItself) {
    std::mt19937_64 random(kSeed + 5);
    for (int t = 0; t < kTypes; ++t) {
        const auto type = static_cast<Type>(t);
        const auto in = reference::elements(type, 77, random);
        for (const Op op : {Op::sum, Op::max}) {
            if (accumulator(type, op) != type) continue;
            Buffer out(in.size(), 5);
            widen(type, op, out.data(), in.data(), 77);
            ASSERT_EQ(out.contents(), in);
        }
    }
}

}  // namespace
}  // namespace pccl::kernel
