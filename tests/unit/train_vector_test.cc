// The arithmetic of outer steps against plain loops, bit for bit, on every instruction set.
#include "train/vector.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/each_target.h"

namespace pccl::train {
namespace {

constexpr std::uint64_t kSeed = 20240911;

std::vector<float> values(std::size_t count, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<float> out(count);
    for (float &x : out)
        x = static_cast<float>(static_cast<std::int64_t>(random() % 2'000'001) - 1'000'000) *
            std::ldexp(1.0F, static_cast<int>(random() % 40) - 30);
    return out;
}

std::vector<std::uint32_t> bits(const std::vector<float> &x) {
    std::vector<std::uint32_t> out;
    for (const float v : x)
        out.push_back(std::bit_cast<std::uint32_t>(v));
    return out;
}

/// Expects that `run(p, v, g, n)` gives the result of `one(p, v, g)` for each element, on every target and for sizes around the
/// vector's.
void expect_each(const std::function<void(float *, float *, const float *, std::size_t)> &run,
                 const std::function<void(float &, float &, float)> &one) {
    test::on_every_target(vector_target, [&](std::int64_t) {
        for (const std::size_t n :
             {0U, 1U, 2U, 3U, 5U, 7U, 8U, 15U, 16U, 17U, 31U, 33U, 63U, 64U, 65U, 255U, 1024U, 1025U, 4099U}) {
            // The buffers begin at an unaligned address and have one more element, which must not change.
            auto p = values(n + 2, kSeed), v = values(n + 2, kSeed + 1);
            const auto g = values(n + 2, kSeed + 2);
            auto p_expected = p, v_expected = v;
            for (std::size_t i = 1; i <= n; ++i)
                one(p_expected[i], v_expected[i], g[i]);
            run(p.data() + 1, v.data() + 1, g.data() + 1, n);
            ASSERT_EQ(bits(p), bits(p_expected)) << n << " elements";
            ASSERT_EQ(bits(v), bits(v_expected)) << n << " elements";
        }
    });
}

// The variables are volatile, so that no compiler contracts the reference.
float product(float a, float b) {
    volatile float out = a * b;
    return out;
}

TEST(Vector, SgdIsRoundedStepByStep) {
    expect_each([](float *p, float *, const float *g, std::size_t n) { sgd(p, g, 0.7F, n); },
                [](float &p, float &, float g) { p -= product(0.7F, g); });
}

TEST(Vector, HeavyBallIsRoundedStepByStep) {
    expect_each([](float *p, float *v, const float *g, std::size_t n) { heavy_ball(p, v, g, 0.3F, 0.9F, n); },
                [](float &p, float &v, float g) {
                    v = product(0.9F, v) + g;
                    p -= product(0.3F, v);
                });
}

TEST(Vector, NesterovIsRoundedStepByStep) {
    expect_each([](float *p, float *v, const float *g, std::size_t n) { nesterov(p, v, g, 0.7F, 0.9F, n); },
                [](float &p, float &v, float g) {
                    v = product(0.9F, v) + g;
                    p -= product(0.7F, g + product(0.9F, v));
                });
}

TEST(Vector, ClippedMomentumAndStepStayWithinTheBound) {
    constexpr float kBound = 25.0F;
    expect_each([](float *p, float *v, const float *g,
                   std::size_t n) { static_cast<void>(clipped_heavy_ball(p, v, g, 1.0F, 0.5F, 1.7F, kBound, n)); },
                [](float &p, float &v, float g) {
                    v = product(0.5F, v) + g / 1.7F;
                    v = v > kBound ? kBound : v < -kBound ? -kBound : v;
                    p -= v;
                });
}

TEST(Vector, NormOfAStepIsEqualOnEveryInstructionSet) {
    std::vector<double> norms;
    test::on_every_target(vector_target, [&](std::int64_t) {
        auto p = values(100'003, kSeed), v = values(100'003, kSeed + 1);
        const auto g = values(100'003, kSeed + 2);
        norms.push_back(clipped_heavy_ball(p.data(), v.data(), g.data(), 0.5F, 0.9F, 2.0F, 0.0F, p.size()));
    });
    ASSERT_FALSE(norms.empty());
    EXPECT_GT(norms.front(), 0.0);
    EXPECT_THAT(norms, testing::Each(norms.front()));
}

TEST(Vector, MixingAndOverlaysAreRoundedStepByStep) {
    expect_each([](float *p, float *, const float *g, std::size_t n) { mix(p, g, 0.25F, n); },
                [](float &p, float &, float g) { p = product(0.25F, p) + product(0.75F, g); });
    expect_each([](float *p, float *v, const float *g, std::size_t n) { overlay(p, v, p, g, 0.4F, 0.9F, n); },
                [](float &p, float &v, float g) {
                    v = product(0.9F, v) + g;
                    p -= product(0.4F, g + product(0.9F, v));
                });
    expect_each([](float *p, float *, const float *, std::size_t n) { multiply(p, 3.3F, n); },
                [](float &p, float &, float) { p *= 3.3F; });
    expect_each([](float *p, float *, const float *, std::size_t n) { divide(p, 3.3F, n); },
                [](float &p, float &, float) { p /= 3.3F; });
}

TEST(Halves, EveryValueSurvivesWideningAndNarrowing) {
    for (const auto type : {pcclFloat16, pcclBFloat16}) {
        for (std::uint32_t i = 0; i < 65536; ++i) {
            const auto half = static_cast<std::uint16_t>(i);
            float wide = 0.0F;
            std::uint16_t back = 0;
            load(type, &half, &wide, 1);
            store(type, &wide, &back, 1);
            if (std::isnan(wide)) {
                float again = 0.0F;
                load(type, &back, &again, 1);
                ASSERT_TRUE(std::isnan(again)) << i;
            } else {
                ASSERT_EQ(back, half) << i;
            }
        }
    }
}

TEST(Halves, NarrowingRoundsToNearestEven) {
    for (const auto type : {pcclFloat16, pcclBFloat16}) {
        for (std::uint32_t i = 0; i < 0x7BFF; i += 1) {  // adjacent values that are finite in both types
            const std::uint16_t low = static_cast<std::uint16_t>(i), high = static_cast<std::uint16_t>(i + 1);
            float a = 0.0F, b = 0.0F;
            load(type, &low, &a, 1);
            load(type, &high, &b, 1);
            const float middle = static_cast<float>((static_cast<double>(a) + static_cast<double>(b)) / 2.0);  // exact
            const float cases[3] = {std::nextafter(middle, a), middle, std::nextafter(middle, b)};
            std::uint16_t out[3] = {};
            store(type, cases, out, 3);
            ASSERT_EQ(out[1], i % 2 == 0 ? low : high) << i;
            if (cases[0] == middle) continue;  // there is no float between them
            ASSERT_EQ(out[0], low) << i;
            ASSERT_EQ(out[2], high) << i;
        }
    }
    const float beyond[] = {65519.9F, 65520.0F, -70000.0F, std::numeric_limits<float>::infinity()};
    std::uint16_t out[4] = {};
    store(pcclFloat16, beyond, out, 4);
    EXPECT_THAT(out, testing::ElementsAre(0x7BFF, 0x7C00, 0xFC00, 0x7C00));
}

TEST(Halves, PseudoGradientIsZeroWithoutTraining) {
    const auto start = values(3000, kSeed);
    for (const auto type : {pcclFloat, pcclFloat16, pcclBFloat16}) {
        std::vector<std::byte> held(start.size() * 4);
        std::vector<float> out(start.size(), 1.0F);
        std::vector<float> small = start;
        for (float &x : small)
            x = std::fmod(x, 60000.0F);  // finite in every type
        store(type, small.data(), held.data(), small.size());
        difference(type, small.data(), held.data(), out.data(), out.size());
        EXPECT_THAT(out, testing::Each(0.0F));
    }
}

}  // namespace
}  // namespace pccl::train
