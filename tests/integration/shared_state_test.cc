// Shared state: the elected content, the peers that are behind, the bytes that move, and the members that are removed.
#include "harness/reduce.h"

#include <gmock/gmock.h>

namespace pccl::itest {
namespace {

using ::testing::HasSubstr;

/// A state of one tensor "w" of `count` floats.
Json single(std::uint64_t seed, std::uint64_t revision = 0, std::size_t count = 100000) {
    return {{"revision", revision}, {"tensors", Json::array({{{"name", "w"}, {"count", count}, {"seed", seed}}})}};
}

class SharedState : public ::testing::Test {
protected:
    World world;

    void define_each(const std::vector<Json> &states) {
        ASSERT_TRUE(all_have_code(world.call_each("define", states), pcclSuccess));
    }
    std::vector<Json> sync_all(const Json &arguments = Json::object()) { return world.call_all("sync", arguments); }
    std::vector<Json> sync_each(const std::vector<Json> &arguments) { return world.call_each("sync", arguments); }
};

TEST_F(SharedState, EqualContentMovesNothing) {
    world.join(3);
    define_each({single(1), single(1), single(1)});
    for (const Json &answer : sync_all()) {
        EXPECT_TRUE(has_code(answer, pcclSuccess));
        EXPECT_EQ(answer.at("tx"), 0);
        EXPECT_EQ(answer.at("rx"), 0);
    }
}

TEST_F(SharedState, MostCommonContentWins) {
    world.join(3);
    define_each({single(1), single(2), single(1)});
    const auto answers = sync_all();
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[0].at("rx"), 0);
    EXPECT_EQ(answers[1].at("rx"), 400000);
    EXPECT_EQ(answers[2].at("rx"), 0);
    EXPECT_EQ(answers[0].at("tx").get<std::uint64_t>() + answers[2].at("tx").get<std::uint64_t>(), 400000U);
}

TEST_F(SharedState, OnlyDifferentChunksMove) {
    world.join(3);
    const Json tensors = Json::array({{{"name", "large"}, {"count", 16 << 20}, {"type", "uint8"}, {"seed", 5}},
                                      {{"name", "small"}, {"count", 10}, {"seed", 6}},
                                      {{"name", "other"}, {"count", 1 << 20}, {"seed", 7}}});
    define_each(std::vector<Json>(3, {{"tensors", tensors}}));
    world[2].call("poke", {{"tensor", 0}, {"at", (5 << 20) + 17}});
    const auto answers = sync_all();
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[2].at("rx"), 1 << 20);  // the one chunk of 1 MiB
    EXPECT_EQ(answers[0].at("rx"), 0);
    EXPECT_EQ(answers[1].at("rx"), 0);
}

TEST_F(SharedState, RevisionsAdvanceByOne) {
    world.join(2);
    define_each({single(1, 41), single(1, 41)});
    EXPECT_TRUE(all_have_code(sync_all(), pcclSuccess));  // the first synchronization accepts any revision
    for (std::uint64_t revision = 42; revision < 50; ++revision) {
        define_each({single(revision, revision), single(revision, revision)});
        const auto answers = sync_all();
        EXPECT_TRUE(all_same(answers, "hashes"));
        EXPECT_EQ(answers[1].at("revision"), revision);
        EXPECT_EQ(answers[1].at("rx"), 0);
    }
}

TEST_F(SharedState, JumpOfAllMembersIsAccepted) {
    world.join(3);
    define_each({single(1, 0), single(1, 0), single(1, 0)});
    EXPECT_TRUE(all_have_code(sync_all(), pcclSuccess));
    define_each({single(2, 100), single(2, 100), single(2, 100)});
    const auto answers = sync_all();
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[0].at("revision"), 100);
    EXPECT_EQ(answers[0].at("rx"), 0);
}

TEST_F(SharedState, MemberThatBreaksTheRevisionRuleIsRemoved) {
    world.join(3);
    define_each({single(1, 0), single(1, 0), single(1, 0)});
    EXPECT_TRUE(all_have_code(sync_all(), pcclSuccess));
    const auto answers = sync_each({{{"revision", 1}}, {{"revision", 1}}, {{"revision", 9}}});
    EXPECT_TRUE(has_code(answers[0], pcclSuccess));
    EXPECT_TRUE(has_code(answers[1], pcclSuccess));
    EXPECT_TRUE(has_code(answers[2], pcclInvalidUsage));
    EXPECT_THAT(answers[2].at("error").get<std::string>(), HasSubstr("revision"));
    world.erase(2);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST_F(SharedState, MemberBehindReceivesTheContentAndTheRevision) {
    world.join(3);
    define_each({single(1), single(1), single(1)});
    EXPECT_TRUE(all_have_code(sync_all(), pcclSuccess));
    define_each({single(2, 1), single(2, 1), single(7, 0)});
    const auto answers = sync_all();
    EXPECT_TRUE(all_have_code(answers, pcclSuccess));
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[2].at("revision"), 1);
    EXPECT_EQ(answers[2].at("rx"), 400000);
    EXPECT_EQ(answers[2].at("tx"), 0);
    EXPECT_EQ(answers[0].at("tx").get<std::uint64_t>() + answers[1].at("tx").get<std::uint64_t>(), 400000U);
    EXPECT_EQ(answers[0].at("rx").get<std::uint64_t>() + answers[1].at("rx").get<std::uint64_t>(), 0U);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(3, {{"count", 1000}})))) << "all three are members";
}

TEST_F(SharedState, MemberThatNeverIncrementsItsRevisionStays) {
    world.join(3);
    for (std::uint64_t step = 0; step < 20; ++step) {
        const std::uint64_t forgotten = step == 0 ? 0 : step - 1;  // the revision that the last synchronization set
        define_each({single(step, step), single(step, step), single(step % 3 == 0 ? 999 : step, forgotten)});
        const auto answers = sync_all();
        ASSERT_TRUE(all_same(answers, "hashes")) << step;
        EXPECT_EQ(answers[2].at("revision"), step);
        EXPECT_EQ(answers[2].at("rx"), step % 3 == 0 ? 400000 : 0) << step;
    }
}

TEST_F(SharedState, GroupSynchronizesTheSameRevisionTwice) {
    world.join(3);
    for (std::uint64_t step = 0; step < 4; ++step) {
        define_each({single(step, 3), single(100 + step, 3), single(step, 3)});
        const auto answers = sync_all();
        ASSERT_TRUE(all_same(answers, "hashes")) << step;
        EXPECT_EQ(answers[1].at("revision"), 3);
    }
}

TEST_F(SharedState, NewcomerReceivesEverythingAndTheRevision) {
    world.join(2);
    define_each({single(1, 0), single(1, 0)});
    EXPECT_TRUE(all_have_code(sync_all(), pcclSuccess));
    world.spawn();
    world.join_all(3);
    define_each({single(7, 1), single(7, 1), single(0, 0)});
    const auto answers = sync_all();
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[2].at("revision"), 1);
    EXPECT_EQ(answers[2].at("rx"), 400000);
    EXPECT_EQ(answers[0].at("rx"), 0);
}

TEST_F(SharedState, NewcomerAtAHigherRevisionDoesNotWin) {
    world.join(2);
    define_each({single(1, 0), single(1, 0)});
    EXPECT_TRUE(all_have_code(sync_all(), pcclSuccess));
    world.spawn();
    world.join_all(3);
    define_each({single(7, 1), single(7, 1), single(3, 50)});
    const auto answers = sync_all();
    EXPECT_TRUE(has_code(answers[0], pcclSuccess));
    EXPECT_TRUE(has_code(answers[1], pcclSuccess));
    EXPECT_EQ(answers[0].at("rx"), 0);
    EXPECT_EQ(answers[1].at("rx"), 0);
    EXPECT_TRUE(has_code(answers[2], pcclInvalidUsage));
}

TEST_F(SharedState, ReceiveOnlyNeverWins) {
    world.join(3);
    define_each({single(1), single(2), single(2)});
    const auto answers = sync_each({{{"strategy", "popular"}}, {{"strategy", "receive"}}, {{"strategy", "receive"}}});
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[0].at("rx"), 0);
    EXPECT_EQ(answers[1].at("rx"), 400000);
    EXPECT_EQ(answers[1].at("tx"), 0);
    EXPECT_EQ(answers[2].at("tx"), 0);
}

TEST_F(SharedState, AllReceiveOnlyHaveNoSource) {
    world.join(2);
    define_each({single(1), single(2)});
    EXPECT_TRUE(all_have_code(sync_all({{"strategy", "receive"}}), pcclNoSharedStateAvailable));
    // A failed synchronization changes nothing, so the next one can succeed.
    EXPECT_TRUE(all_same(sync_all(), "hashes"));
}

TEST_F(SharedState, SendOnlyMustWin) {
    world.join(3);
    define_each({single(1), single(1), single(2)});
    const auto answers = sync_each({{{"strategy", "popular"}}, {{"strategy", "popular"}}, {{"strategy", "send"}}});
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[2].at("rx"), 0);
    EXPECT_EQ(answers[0].at("rx"), 400000);
    EXPECT_EQ(answers[1].at("rx"), 400000);
}

TEST_F(SharedState, SendOnlyWinsOverReceiveOnly) {
    world.join(2);
    define_each({single(1), single(2)});
    const auto answers = sync_each({{{"strategy", "send"}}, {{"strategy", "receive"}}});
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[1].at("rx"), 400000);
}

TEST_F(SharedState, TwoSendOnlyThatDifferAreRemoved) {
    world.join(4);
    define_each({single(1), single(1), single(2), single(3)});
    const auto answers =
        sync_each({{{"strategy", "popular"}}, {{"strategy", "popular"}}, {{"strategy", "send"}}, {{"strategy", "send"}}});
    for (const std::size_t sender : {2U, 3U}) {
        EXPECT_TRUE(has_code(answers[sender], pcclInvalidUsage));
        EXPECT_NE(answers[sender].at("error"), "");
    }
    EXPECT_TRUE(all_same({answers[0], answers[1]}, "hashes"));
    EXPECT_EQ(answers[0].at("rx"), 0);
    world.erase(3);
    world.erase(2);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

TEST_F(SharedState, TwoSendOnlyThatAgreeBothSend) {
    world.join(3);
    define_each({single(1), single(1), single(2)});
    const auto answers = sync_each({{{"strategy", "send"}}, {{"strategy", "send"}}, {{"strategy", "popular"}}});
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[2].at("rx"), 400000);
}

TEST_F(SharedState, EveryTypeIsSynchronizedWithEmptyTensors) {
    world.join(2);
    Json tensors[2] = {Json::array(), Json::array()};
    for (std::size_t i = 0; i < 2; ++i) {
        int n = 0;
        for (const char *type :
             {"uint8", "int8", "int16", "uint16", "uint32", "int32", "uint64", "int64", "half", "bfloat16", "float", "double"}) {
            tensors[i].push_back({{"name", type}, {"type", type}, {"count", 1001 + n++}, {"seed", i}});
        }
        tensors[i].push_back({{"name", "empty"}, {"count", 0}});
    }
    define_each({{{"tensors", tensors[0]}}, {{"tensors", tensors[1]}}});
    EXPECT_TRUE(all_same(sync_each({{{"strategy", "send"}}, {{"strategy", "receive"}}}), "hashes"));
}

TEST_F(SharedState, EmptyTensorsAreSynchronized) {
    world.join(2);
    const Json empty = {{"tensors", Json::array({{{"name", "none"}, {"count", 0}}})}};
    define_each({empty, empty});
    EXPECT_TRUE(all_have_code(sync_all(), pcclSuccess));
}

struct Deviation {
    const char *name;
    Json tensors;
    const char *word;
};

void PrintTo(const Deviation &deviation, std::ostream *out) { *out << deviation.name; }

class DeviatingMember : public SharedState, public ::testing::WithParamInterface<Deviation> {};

TEST_P(DeviatingMember, IsRemovedWithAReason) {
    world.join(3);
    const Json usual = single(1, 0, 100);
    define_each({usual, usual, {{"tensors", GetParam().tensors}}});
    const auto answers = sync_all();
    EXPECT_TRUE(all_same({answers[0], answers[1]}, "hashes"));
    EXPECT_TRUE(has_code(answers[2], pcclInvalidUsage));
    EXPECT_THAT(answers[2].at("error").get<std::string>(), HasSubstr(GetParam().word));
    // It is removed, and its next call reports the same.
    EXPECT_FALSE(has_code(world[2].call("reduce", {{"count", 10}}), pcclSuccess));
    world.erase(2);
    EXPECT_TRUE(all_right(world.call_each("reduce", ranked(2, {{"count", 1000}}))));
}

INSTANTIATE_TEST_SUITE_P(
    By, DeviatingMember,
    ::testing::Values(Deviation{"Name", Json::array({{{"name", "v"}, {"count", 100}}}), "v"},
                      Deviation{"Count", Json::array({{{"name", "w"}, {"count", 101}}}), "w"},
                      Deviation{"Type", Json::array({{{"name", "w"}, {"count", 100}, {"type", "int32"}}}), "w"},
                      Deviation{"MoreTensors", Json::array({{{"name", "w"}, {"count", 100}}, {{"name", "x"}, {"count", 1}}}),
                                "x"}),
    [](const auto &param) { return std::string(param.param.name); });

TEST_F(SharedState, GroupsSynchronizeSeparately) {
    for (int i = 0; i < 4; ++i)
        world.spawn({.group = i / 2});
    world.join_all(4);
    define_each({single(1, 5), single(1, 5), single(2, 90, 50), single(2, 90, 50)});
    const auto first = sync_all();
    EXPECT_TRUE(all_same({first[0], first[1]}, "hashes"));
    EXPECT_TRUE(all_same({first[2], first[3]}, "hashes"));
    EXPECT_NE(first[0].at("hashes"), first[2].at("hashes"));
    EXPECT_EQ(first[0].at("revision"), 5);
    EXPECT_EQ(first[2].at("revision"), 90);
    // One group can synchronize while the other does not.
    define_each({single(3, 6), single(4, 6), single(2, 90, 50), single(2, 90, 50)});
    const int a = world[0].start("sync", {{"strategy", "send"}});
    const int b = world[1].start("sync");
    EXPECT_TRUE(all_same({world[0].finish(a), world[1].finish(b)}, "hashes"));
}

TEST_F(SharedState, TensorsThatMayDifferStayDifferent) {
    world.join(3);
    const auto state = [](int seed, int revision) -> Json {
        return {{"revision", revision},
                {"tensors", Json::array({{{"name", "w"}, {"count", 1000}, {"seed", 1}},
                                         {{"name", "own"}, {"count", 500}, {"seed", seed}, {"unequal", true}}})}};
    };
    define_each({state(10, 0), state(11, 0), state(12, 0)});
    auto answers = sync_all();
    EXPECT_TRUE(all_have_code(answers, pcclSuccess));
    for (const Json &answer : answers)
        EXPECT_EQ(answer.at("rx"), 0);
    EXPECT_NE(answers[0].at("hashes")[1], answers[1].at("hashes")[1]);
    // A newcomer that is behind also receives the tensor.
    world.spawn();
    world.join_all(4);
    define_each({state(10, 1), state(11, 1), state(12, 1), state(99, 0)});
    answers = sync_all();
    EXPECT_TRUE(all_have_code(answers, pcclSuccess));
    const auto &received = answers[3].at("hashes")[1];
    EXPECT_TRUE(received == answers[0].at("hashes")[1] || received == answers[1].at("hashes")[1] ||
                received == answers[2].at("hashes")[1]);
    EXPECT_GE(answers[3].at("rx").get<int>(), 2000);
}

TEST_F(SharedState, OnePeerAloneSynchronizes) {
    world.join(1);
    define_each({single(1, 3)});
    const auto answers = sync_all();
    EXPECT_TRUE(has_code(answers[0], pcclSuccess));
    EXPECT_EQ(answers[0].at("revision"), 3);
}

TEST_F(SharedState, LargeStatesArePulledFromAllHolders) {
    world.join(4);
    constexpr std::size_t kFloats = 16 << 20;
    define_each({single(1, 0, kFloats), single(1, 0, kFloats), single(1, 0, kFloats), single(2, 0, kFloats)});
    const auto answers = world.call_all("sync", {}, Millis(60000));
    EXPECT_TRUE(all_same(answers, "hashes"));
    EXPECT_EQ(answers[3].at("rx"), kFloats * 4);
    for (std::size_t i = 0; i < 3; ++i)
        EXPECT_GT(answers[i].at("tx"), 0) << "peer " << i << " sent nothing";
}

}  // namespace
}  // namespace pccl::itest
