// Quantized reduces: the error stays below its bound, all peers hold the same bits, and NaN and infinity do not become plausible
// numbers.
#include <string_view>

#include "harness/reduce.h"

namespace pccl::itest {
namespace {

struct ErrorBound {
    const char *name;
    const char *pattern;
    double relative_error;
};

void PrintTo(const ErrorBound &bound, std::ostream *out) { *out << bound.name; }

class QuantizationError : public ::testing::TestWithParam<std::tuple<const char *, ErrorBound>> {};

TEST_P(QuantizationError, StaysWithinTheBoundAtFourPeers) {
    const auto &[quant, bound] = GetParam();
    World world;
    world.join(4);
    const auto answers = world.call_each(
        "reduce", ranked(4, {{"count", 4 << 20}, {"quant", quant}, {"op", "avg"}, {"pattern", bound.pattern}}), Millis(60000));
    EXPECT_TRUE(all_right(answers));
    EXPECT_LE(answers[0].at("relative_error").get<double>(), bound.relative_error);
    // A quarter of the bytes plus the ranges of the blocks.
    EXPECT_LE(answers[0].at("tx").get<double>(), 1.5 * (4 << 20) * 1.10);
}

INSTANTIATE_TEST_SUITE_P(EightBits, QuantizationError,
                         ::testing::Combine(::testing::Values("minmax:u8", "zps:u8"),
                                            ::testing::Values(ErrorBound{"Normal", "normal:0,1", 0.012},
                                                              ErrorBound{"NarrowAroundTen", "normal:10,0.1", 0.00012},
                                                              ErrorBound{"UniformBelowZero", "uniform:-11,-10", 0.0004})),
                         [](const auto &param) {
                             const std::string quant = std::get<0>(param.param);
                             return (quant.starts_with("minmax") ? std::string("MinMax") : std::string("ZeroPoint")) +
                                    std::get<1>(param.param).name;
                         });

TEST(Quantization, EveryTypeAndOperatorIsWithinTolerance) {
    World world;
    world.join(3);
    for (const char *type : {"float", "double", "half", "bfloat16"}) {
        for (const char *op : {"sum", "avg", "prod", "max", "min"}) {
            for (const char *quant : {"minmax:u8",
                                      "minmax:i8",
                                      "minmax:u16",
                                      "minmax:i16",
                                      "zps:u8",
                                      "zps:i8",
                                      "zps:u16",
                                      "zps:i16",
                                      "blockscale:i8",
                                      "blockscale:i8:512",
                                      "blockscale:i8:64:pow2",
                                      "blockscale:i4",
                                      "blockscale:i4:128:pow2",
                                      "minmax:u4",
                                      "minmax:u2",
                                      "zps:u4",
                                      "zps:u2",
                                      "blockscale:u4",
                                      "blockscale:u4:128:pow2",
                                      "blockscale:u2",
                                      "blockscale:u2:256:pow2"}) {
                const auto answers = world.call_each(
                    "reduce", ranked(3, {{"count", 10007}, {"type", type}, {"op", op}, {"quant", quant}, {"offset", 1}}));
                ASSERT_TRUE(all_right(answers)) << type << ' ' << op << ' ' << quant;
            }
        }
    }
}

TEST(Quantization, SmallCountsAndInPlaceCallsWork) {
    World world;
    world.join(4);
    for (const char *quant : {"minmax:u8", "blockscale:i8", "blockscale:i8:512", "blockscale:i4:32:pow2", "minmax:u4",
                              "blockscale:u4:64", "minmax:u2", "zps:u2", "blockscale:u2", "blockscale:u2:128:pow2"}) {
        for (const int count : {1, 2, 3, 5, 255, 256, 257, 1025}) {
            for (const bool in_place : {false, true}) {
                const auto answers =
                    world.call_each("reduce", ranked(4, {{"count", count}, {"quant", quant}, {"in_place", in_place}}));
                ASSERT_TRUE(all_same(answers, "hash")) << quant << ' ' << count;
                const std::string_view name = quant;
                const double bound = name.find(":u2") != name.npos                                 ? 3
                                     : name.find("4") != name.npos && name.find("i8") == name.npos ? 0.9
                                                                                                   : 0.1;
                ASSERT_LT(answers[0].at("relative_error").get<double>(), bound) << quant << ' ' << count;
            }
        }
    }
}

TEST(Quantization, ConstantBlocksAreExact) {
    World world;
    world.join(2);
    for (const char *quant :
         {"minmax:u8", "zps:u8", "blockscale:i8", "blockscale:i4", "minmax:u4", "zps:u2", "blockscale:u4", "blockscale:u2"}) {
        for (const char *pattern : {"constant:0", "constant:1", "constant:-3"}) {
            const auto answers = world.call_each("reduce", ranked(2, {{"count", 1000}, {"quant", quant}, {"pattern", pattern}}));
            EXPECT_TRUE(all_right(answers));
            EXPECT_LE(answers[0].at("relative_error").get<double>(), 1e-6) << quant << ' ' << pattern;
        }
    }
}

TEST(Quantization, NanAndInfinityDoNotBecomePlausibleNumbers) {
    World world;
    world.join(3);
    for (const char *quant :
         {"minmax:u8", "zps:u8", "minmax:u16", "zps:u16", "blockscale:i8", "blockscale:i4", "blockscale:i8:256:pow2", "minmax:u4",
          "zps:u2", "blockscale:u4", "blockscale:u2", "blockscale:u2:256:pow2"}) {
        const auto answers = world.call_each("reduce", ranked(3, {{"count", 50000}, {"quant", quant}, {"pattern", "nonfinite"}}));
        EXPECT_TRUE(all_right(answers)) << quant;
    }
}

}  // namespace
}  // namespace pccl::itest
