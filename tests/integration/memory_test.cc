// Memory of a peer and of the master: a large reduce in place needs its undo copy and at most 64 MiB more, and it does not grow
// in long runs.
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <unistd.h>

#include <fstream>

namespace pccl::itest {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

TEST(Memory, ReduceInPlaceNeedsOnlyItsUndoCopy) {
    World world;
    world.join(2);
    // A small reduce first, so that threads, lanes and pools exist before the measurement.
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
            EXPECT_LE(growth, bytes + bytes + 64 * kMiB) << "the limit is the buffer, its undo copy and 64 MiB; peer " << i;
        }
        RecordProperty("growth_mib_" + std::to_string(i), static_cast<int>(growth / kMiB));
    }
}

TEST(Memory, ReduceOutOfPlaceNeedsNoUndoCopy) {
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
                << "the limit is two buffers and 64 MiB; peer " << i;
        }
    }
}

TEST(Memory, ManyRoundsDoNotGrowMemory) {
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

/// Resident memory of this process, in which the master runs.
std::uint64_t resident() {
    std::ifstream statm("/proc/self/statm");
    std::uint64_t size = 0, pages = 0;
    statm >> size >> pages;
    return pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

TEST(Memory, FreshTagsDoNotGrowMemory) {
    World world;
    world.join(2);
    // Tags in random order, so that no range of tags can represent many.
    const auto steps = [&](std::uint64_t first, int count) {
        const auto answers = world.call_all("fresh_tags", {{"first", first}, {"count", count}, {"in_flight", 8}}, Millis(80000));
        EXPECT_TRUE(all_have_code(answers, pcclSuccess));
    };
    steps(0, 20000);
    std::vector<std::uint64_t> before;
    for (const Json &answer : world.call_all("memory"))
        before.push_back(answer.at("now"));
    const std::uint64_t master_before = resident();
    steps(1'000'000, 200'000);
    const auto after = world.call_all("memory");
    for (std::size_t i = 0; i < 2; ++i) {
        // 200 000 tags of 175 bytes would be 33 MiB.
        if (!kSanitized) {
            EXPECT_LE(after[i].at("now").get<std::uint64_t>(), before[i] + 8 * kMiB) << "peer " << i;
        }
        RecordProperty("growth_kib_" + std::to_string(i),
                       static_cast<int>((after[i].at("now").get<std::int64_t>() - static_cast<std::int64_t>(before[i])) / 1024));
    }
    const std::uint64_t master_after = resident();
    if (!kSanitized) {
        EXPECT_LE(master_after, master_before + 8 * kMiB) << "the master";
    }
    RecordProperty("growth_kib_master",
                   static_cast<int>((static_cast<std::int64_t>(master_after) - static_cast<std::int64_t>(master_before)) / 1024));
}

}  // namespace
}  // namespace pccl::itest
