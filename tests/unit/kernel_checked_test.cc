// Combining with checksums in one pass gives the same bytes as combine() and finish(), and the same sums as checksum().
#include "kernel/checked.h"

#include "unit/kernel_targets.h"

namespace pccl::kernel {
namespace {

std::vector<std::byte> some_bytes(std::size_t count, unsigned seed) {
    std::vector<std::byte> bytes(count);
    std::mt19937 random(seed);
    for (auto &b : bytes)
        b = static_cast<std::byte>(random() & 0x3F);  // no float among them is a NaN
    return bytes;
}

const std::size_t kCounts[] = {1, 7, 15, 240, 1023, 1024, 1025, 2047, 2048, 2049, 5000};

TEST(KernelChecked, CombinesAsCombineDoesAndSealsBothSides) {
    on_every_target([&](std::int64_t) {
        for (int t = 0; t < kTypes; ++t) {
            for (const bool a_is_input : {false, true}) {
                const Combine how{static_cast<Type>(t), Op::sum, a_is_input, true};
                const std::size_t wide = size_of(accumulator(how.type, how.op)), narrow = size_of(how.type);
                for (const std::size_t count : kCounts) {
                    const auto a = some_bytes(count * (a_is_input ? narrow : wide), 1), b = some_bytes(count * narrow, 2);
                    std::vector<std::byte> want(count * wide), got(count * wide);
                    combine(how, want.data(), a.data(), b.data(), count);
                    const Seals seals = combine_checked(how, got.data(), a.data(), b.data(), count);
                    ASSERT_EQ(got, want) << t << " " << count;
                    ASSERT_EQ(seals.in, checksum(a.data(), a.size()));
                    ASSERT_EQ(seals.out, checksum(want.data(), want.size()));
                }
            }
        }
    });
}

TEST(KernelChecked, SealsInputAndResultInPlace) {
    for (const std::size_t count : kCounts) {
        const auto a = some_bytes(count * 4, 3), b = some_bytes(count * 4, 4);
        auto both = a;
        const Seals seals = combine_checked({Type::f32, Op::sum, false, true}, both.data(), both.data(), b.data(), count);
        EXPECT_EQ(seals.in, checksum(a.data(), a.size())) << count;
        EXPECT_EQ(seals.out, checksum(both.data(), both.size())) << count;
    }
}

TEST(KernelChecked, FinishesAsFinishDoes) {
    on_every_target([&](std::int64_t) {
        for (int t = 0; t < kTypes; ++t) {
            for (const bool a_is_input : {false, true}) {
                const Combine how{static_cast<Type>(t), Op::avg, a_is_input, true};
                const std::size_t wide = size_of(accumulator(how.type, how.op)), narrow = size_of(how.type);
                for (const std::size_t count : kCounts) {
                    const auto a = some_bytes(count * (a_is_input ? narrow : wide), 5), b = some_bytes(count * narrow, 6);
                    std::vector<std::byte> sum(count * wide), want(count * narrow), got(count * narrow);
                    combine(how, sum.data(), a.data(), b.data(), count);
                    finish(how.type, how.op, want.data(), sum.data(), count, 3);
                    const Seals seals = combine_and_finish_checked(how, got.data(), a.data(), b.data(), count, 3);
                    ASSERT_EQ(got, want) << t << " " << count;
                    ASSERT_EQ(seals.in, checksum(a.data(), a.size()));
                    ASSERT_EQ(seals.out, checksum(want.data(), want.size()));
                }
            }
        }
    });
}

}  // namespace
}  // namespace pccl::kernel
