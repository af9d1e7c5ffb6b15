// Averages continue when members die during them: every element is the exact average of its contributors, and all survivors hold
// the same bits.
#include "harness/world.h"

#include <algorithm>
#include <bit>

namespace pccl::itest {
namespace {

constexpr std::size_t kCount = 4 << 20;

/// The result of one average at the survivors.
struct Result {
    std::map<unsigned, std::uint64_t>
        participants;  ///< number of elements for each set of contributors, which has a bit for each slot
    std::vector<Json> answers;
};

/// Expects that all hold the same bits, no element is wrong, and every survivor contributed to every element.
Result expect_repaired(const std::vector<Json> &answers, std::size_t count, unsigned survivors) {
    Result result{{}, answers};
    EXPECT_TRUE(all_same(answers, "hash"));
    for (const Json &answer : answers) {
        EXPECT_EQ(answer.value("wrong", 1), 0) << answer.dump();
        EXPECT_EQ(answer.at("participants"), answers[0].at("participants"));
        EXPECT_EQ(answer.at("peers"), std::popcount(survivors));
    }
    std::uint64_t elements = 0;
    unsigned fewest = 0;
    for (const auto &[mask, number] : answers[0].at("participants").items()) {
        const auto who = static_cast<unsigned>(std::stoul(mask));
        EXPECT_EQ(who & survivors, survivors) << "a survivor did not contribute";
        result.participants[who] = number.get<std::uint64_t>();
        elements += result.participants[who];
        if (fewest == 0 || std::popcount(who) < std::popcount(fewest)) fewest = who;
    }
    EXPECT_EQ(elements, count);
    for (const Json &answer : answers) {
        EXPECT_EQ(answer.at("fewest"), std::popcount(fewest));
        EXPECT_EQ(answer.at("fewest_elements"), result.participants[fewest]);
    }
    return result;
}

Json average(std::size_t slot, Json request = Json::object()) {
    request["slot"] = slot;
    if (!request.contains("count")) request["count"] = kCount;
    if (!request.contains("fault")) request["fault"] = "repair";
    return request;
}

/// Runs an average of four members, whose ranks are their slots. The members in `deaths` die when that part of the buffer becomes
/// final there. Returns the answers of the others.
std::vector<Json> average_with_deaths(const std::map<std::size_t, double> &deaths, const Json &request) {
    World world;
    for (int i = 0; i < 4; ++i)
        world.join(1);
    std::vector<int> calls;
    for (std::size_t i = 0; i < 4; ++i) {
        Json one = average(i, request);
        if (deaths.contains(i)) one["die_at"] = deaths.at(i);
        calls.push_back(world[i].start("average", one));
    }
    std::vector<Json> answers;
    for (std::size_t i = 0; i < 4; ++i) {
        if (!deaths.contains(i)) answers.push_back(world[i].finish(calls[i]));
    }
    return answers;
}

/// As `average_with_deaths`, repeated until each of `parts` (a set of contributors) has elements: a death can come too early or
/// too late.
std::vector<Json> average_in_parts(const std::vector<unsigned> &parts, const std::map<std::size_t, double> &deaths,
                                   const Json &request) {
    std::vector<Json> answers;
    const auto complete = [&] {
        const auto there = [&](unsigned who) { return answers[0].at("participants").contains(std::to_string(who)); };
        return !answers.empty() && std::ranges::all_of(parts, there);
    };
    for (int attempt = 0; attempt < 10 && !complete(); ++attempt)
        answers = average_with_deaths(deaths, request);
    return answers;
}

class Repair : public testing::TestWithParam<Json> {};

TEST_P(Repair, LossChangesOnlyElementsThatWereNotFinal) {
    const auto answers =
        average_in_parts({0b1111, 0b1011}, {{2, (2 + 0.9) / 4}}, GetParam());  // in the block that this member completes
    auto result = expect_repaired(answers, kCount, 0b1011);
    EXPECT_GT(result.participants[0b1111], 0U) << "final elements are kept";
    for (const Json &answer : answers) {
        EXPECT_GE(answer.at("repairs"), 1);
        EXPECT_LT(answer.at("repair_tx"), answer.at("tx"));
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Repair,
                         testing::Values(Json{{"type", "float"}}, Json{{"type", "float"}, {"in_place", true}},
                                         Json{{"type", "bfloat16"}}, Json{{"type", "bfloat16"}, {"in_place", true}},
                                         Json{{"type", "int32"}, {"in_place", true}}, Json{{"type", "double"}, {"async", true}},
                                         Json{{"type", "float"}, {"in_place", true}, {"async", true}}),
                         [](const auto &kind) {
                             return kind.param.at("type").template get<std::string>() +
                                    (kind.param.contains("in_place") ? "InPlace" : "") +
                                    (kind.param.contains("async") ? "Async" : "");
                         });

TEST(Repairs, SecondLossIsRepairedDuringTheFirstRepair) {
    // Both die in the first block; member 2 dies at an earlier element of it.
    const auto answers = average_in_parts({0b1111, 0b1010}, {{2, 0.6 / 4}, {0, 0.9 / 4}}, {{"in_place", true}});
    auto result = expect_repaired(answers, kCount, 0b1010);
    EXPECT_GT(result.participants[0b1111], 0u);
    EXPECT_GT(result.participants[0b1010], 0u);
}

TEST(Repairs, LastSurvivorSucceedsWithFinalAndOwnValues) {
    const auto answers = average_in_parts({0b1111, 0b0100}, {{0, 0.7 / 4}, {1, 0.8 / 4}, {3, 0.9 / 4}}, {{"in_place", true}});
    auto result = expect_repaired(answers, kCount, 0b0100);
    EXPECT_GT(result.participants[0b1111], 0u);
    EXPECT_GT(result.participants[0b0100], 0u);
    EXPECT_EQ(answers[0].at("fewest"), 1);
}

TEST(Repairs, OtherAlgorithmsRestart) {
    for (const char *algorithm : {"direct", "one-hop"}) {
        for (const bool in_place : {false, true}) {
            World world;
            world.join(4);
            std::vector<int> calls;
            const Json request = {{"algorithm", algorithm}, {"count", 100000}, {"in_place", in_place}};
            for (std::size_t i = 0; i < 3; ++i)
                calls.push_back(world[i].start("average", average(i, request)));
            world[3].kill();  // this member has not called
            std::vector<Json> answers;
            for (std::size_t i = 0; i < 3; ++i)
                answers.push_back(world[i].finish(calls[i]));
            expect_repaired(answers, 100000, 0b0111);
            EXPECT_EQ(answers[0].at("algorithm"), algorithm);
        }
    }
}

TEST(Repairs, LateMemberJoinsTheRepairedCall) {
    World world;
    world.join(4);
    std::vector<int> calls;
    for (std::size_t i = 0; i < 2; ++i)
        calls.push_back(world[i].start("average", average(i)));
    world[3].kill();
    world.erase(3);
    while (world[2].call("attributes").at("group_world") != 3)
        world[2].call("pending");  // lets it learn of the loss before it calls
    calls.push_back(world[2].start("average", average(2)));
    std::vector<Json> answers;
    for (std::size_t i = 0; i < 3; ++i)
        answers.push_back(world[i].finish(calls[i]));
    expect_repaired(answers, kCount, 0b0111);
    // The next call with the tag is the same operation at all members.
    answers.clear();
    for (std::size_t i = 0; i < 3; ++i)
        calls[i] = world[i].start("average", average(i));
    for (std::size_t i = 0; i < 3; ++i)
        answers.push_back(world[i].finish(calls[i]));
    expect_repaired(answers, kCount, 0b0111);
    EXPECT_EQ(answers[0].at("repairs"), 0);
}

TEST(Repairs, DifferentLossPoliciesAreReported) {
    World world;
    world.join(2);
    const int repairs = world[0].start("average", average(0)),
              retries = world[1].start("average", average(1, {{"fault", "retry"}}));
    for (const Json &answer : {world[0].finish(repairs), world[1].finish(retries)}) {
        EXPECT_TRUE(has_code(answer, pcclInvalidUsage));
        EXPECT_NE(answer.at("error").get<std::string>().find("repair after a loss"), std::string::npos) << answer.dump();
    }
}

TEST(Repairs, AbortEndsItEverywhere) {
    World world;
    world.join(3);  // the third member never calls
    for (std::size_t i = 0; i < 2; ++i) {
        const Json request = {{"count", kCount}, {"op", "avg"}, {"fault", "repair"}, {"rank", i}, {"handle", "h"}};
        ASSERT_TRUE(has_code(world[i].call("launch", request), pcclSuccess));
    }
    world[0].call("abort");
    for (std::size_t i = 0; i < 2; ++i)
        EXPECT_TRUE(has_code(world[i].call("await", {{"handle", "h"}}), pcclRankConnectionLost));
}

}  // namespace
}  // namespace pccl::itest
