// Error feedback: the part that quantization removes from one round is added to later ones. The sum of the results over all
// rounds is that of the true means, minus the residual; after the residual has been flushed, only the rounding error of floats is
// left.
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <iostream>

namespace pccl::itest {
namespace {

constexpr int kRounds = 60;

Json rounds(const char *quant, const char *algorithm, bool feedback) {
    return {
        {"count", 40007},   {"op", "avg"}, {"tag", 3}, {"quant", quant}, {"algorithm", algorithm}, {"error_feedback", feedback},
        {"rounds", kRounds}};
}

TEST(ErrorFeedback, ReturnsAllThatQuantizationRemoved) {
    World world;
    for (const int peers : {4, 8}) {
        if (kSanitized && peers > 4) break;  // takes minutes
        while (static_cast<int>(world.size()) < peers)
            world.spawn();
        world.join_all(peers);
        for (const char *algorithm : {"ring", "one-hop"}) {
            for (const char *quant : {"blockscale:i4", "blockscale:i8:128:pow2", "minmax:u8", "zps:i8", "blockscale:u4",
                                      "blockscale:u2", "minmax:u4", "zps:u2"}) {
                const auto without = world.call_each("rounds", ranked(peers, rounds(quant, algorithm, false)), Millis(60000));
                const auto with = world.call_each("rounds", ranked(peers, rounds(quant, algorithm, true)), Millis(60000));
                ASSERT_TRUE(all_same(without, "hash") && all_same(with, "hash"));
                const double before = without[0].at("relative_error"), after = with[0].at("relative_error"),
                             flushed = with[0].at("flushed_error");
                std::cout << peers << ' ' << algorithm << ' ' << quant << ": " << before << " -> " << after << " -> " << flushed
                          << '\n';
                // One rounding to 2 bits is as large as the sum, so the residual is larger after the last round.
                EXPECT_LT(after, before / (std::string(quant) == "zps:u2" ? 2 : 4));
                EXPECT_LT(flushed, after / 100);
                EXPECT_LT(flushed, 3e-5) << "the rounding of floats, and of the residual to 16 bits";
                world.call_all("drop_feedback", {{"tag", 3}});
            }
        }
    }
}

TEST(ErrorFeedback, IsUnchangedByAFailedRound) {
    for (const char *algorithm : {"ring", "one-hop"}) {
        World world;
        world.join(4);
        // The last peer aborts during these rounds, when the others have called and quantized their contributions.
        Json request = rounds("blockscale:i4", algorithm, true);
        request["aborted_rounds"] = {1, 7, 8, 30};
        const auto answers = world.call_each("rounds", ranked(4, request), Millis(60000));
        for (const Json &answer : answers) {
            ASSERT_TRUE(has_code(answer, pcclSuccess));
            EXPECT_LT(answer.at("flushed_error"), 3e-5);
            EXPECT_EQ(answer.at("lost"), 4);
        }
    }
}

TEST(ErrorFeedback, SurvivesAChangeOfTheGroupAndResetsForANewCount) {
    World world;
    world.join(3);
    const Json request = {{"count", 50000}, {"tag", 9}, {"op", "avg"}, {"quant", "blockscale:i4"}, {"error_feedback", true}};
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, request))));
    world.spawn();
    world.join_all(4);
    EXPECT_TRUE(all_same(world.call_each("reduce", ranked(4, request)), "hash"));
    Json other = request;
    other["count"] = 777;
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(4, other))));
    other["type"] = "double";
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(4, other))));
}

}  // namespace
}  // namespace pccl::itest
