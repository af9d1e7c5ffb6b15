// Runs of every profile from many seeds: no invariant is ever violated. A failure prints the seed and the command that replays
// it.
#include <cstdlib>

#include <gtest/gtest.h>

#include "simulation.h"

namespace pccl::sim {
namespace {

/// Seeds per profile. PCCL_SIM_SEEDS overrides the number: fewer for builds with a sanitizer, which are slow, or more.
std::uint64_t seeds() {
    const char *asked = std::getenv("PCCL_SIM_SEEDS");
    return asked ? std::strtoull(asked, nullptr, 10) : 600;
}

class Seeds : public testing::TestWithParam<const Profile *> {};

TEST_P(Seeds, NoInvariantIsViolated) {
    const std::uint64_t last = seeds();
    std::uint64_t reduced = 0;
    int failed = 0;
    for (std::uint64_t seed = 1; seed <= last && failed < 5; ++seed) {
        const RunOptions options{GetParam(), seed, nullptr, {}};
        const RunReport report = run(options);
        reduced += report.reduced;
        if (report.violations.empty()) continue;
        ++failed;
        ADD_FAILURE() << "profile " << GetParam()->name << ", seed " << seed << ": " << report.violations.front()
                      << "\nreplay: " << replay_command(options) << "\nlast lines:\n"
                      << last_lines(options, 30);
    }
    EXPECT_GT(reduced, last) << "the runs completed too few reduces to test anything";
}

std::vector<const Profile *> all_profiles() {
    std::vector<const Profile *> all;
    for (const auto &profile : profiles())
        all.push_back(&profile);
    return all;
}

INSTANTIATE_TEST_SUITE_P(Profiles, Seeds, testing::ValuesIn(all_profiles()),
                         [](const auto &test) { return std::string(test.param->name); });

TEST(Simulator, RepeatsARunFromItsSeed) {
    for (const auto &profile : profiles()) {
        const RunOptions options{&profile, 4711, nullptr, {}};
        const RunReport first = run(options), second = run(options);
        EXPECT_EQ(first.events, second.events) << profile.name;
        EXPECT_EQ(first.virtual_time, second.virtual_time) << profile.name;
        EXPECT_EQ(first.reduced, second.reduced) << profile.name;
    }
}

}  // namespace
}  // namespace pccl::sim
