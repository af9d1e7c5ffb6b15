// A large reduce in place needs its undo copy and little more.
#include "harness/reduce.h"
#include "harness/sanitized.h"

namespace pccl::itest {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

TEST(Memory, ReduceInPlaceOf256MiBGrowsByTheUndoCopyAndLittleMore) {
    World world;
    world.join(2);
    // Small first: threads, lanes and pools are there before the measurement.
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1 << 18}, {"in_place", true}}))));
    std::vector<std::uint64_t> before;
    for (const Json &answer : world.call_all("memory"))
        before.push_back(answer.at("peak"));
    const std::uint64_t bytes = 256 * kMiB;
    const auto answers =
        world.call_all("reduce", {{"count", bytes / 4}, {"in_place", true}, {"pattern", "constant:1"}}, Millis(80000));
    EXPECT_TRUE(all_same(answers, "hash"));
    EXPECT_EQ(answers[0].at("first"), 2.0);
    const auto after = world.call_all("memory");
    for (std::size_t i = 0; i < 2; ++i) {
        const std::uint64_t growth = after[i].at("peak").get<std::uint64_t>() - before[i];
        if (!kSanitized) {
            EXPECT_LE(growth, bytes + bytes + 64 * kMiB) << "the buffer, its undo copy and 64 MiB; peer " << i;
        }
        RecordProperty("growth_mib_" + std::to_string(i), static_cast<int>(growth / kMiB));
    }
}

TEST(Memory, OutOfPlaceNeedsNoUndoCopy) {
    World world;
    world.join(2);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1 << 18}}))));
    std::vector<std::uint64_t> before;
    for (const Json &answer : world.call_all("memory"))
        before.push_back(answer.at("peak"));
    const std::uint64_t bytes = 64 * kMiB;
    EXPECT_TRUE(all_same(world.call_all("reduce", {{"count", bytes / 4}, {"pattern", "constant:1"}}, Millis(60000)), "hash"));
    const auto after = world.call_all("memory");
    for (std::size_t i = 0; i < 2; ++i) {
        if (!kSanitized) {
            EXPECT_LE(after[i].at("peak").get<std::uint64_t>() - before[i], 2 * bytes + 64 * kMiB)
                << "two buffers and 64 MiB; peer " << i;
        }
    }
}

TEST(Memory, ManyRoundsDoNotGrow) {
    World world;
    world.join(2);
    const auto rounds = [&](int times) {
        EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 100000}, {"times", times}}), Millis(60000))));
    };
    rounds(100);
    std::vector<std::uint64_t> before;
    for (const Json &answer : world.call_all("memory"))
        before.push_back(answer.at("now"));
    rounds(1000);
    const auto after = world.call_all("memory");
    for (std::size_t i = 0; i < 2; ++i)
        if (!kSanitized) {
            EXPECT_LE(after[i].at("now").get<std::uint64_t>(), before[i] + 16 * kMiB);
        }
}

}  // namespace
}  // namespace pccl::itest
