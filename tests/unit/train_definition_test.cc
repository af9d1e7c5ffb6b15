// The definitions that peers compare when they join: lines, refusals with both values, relocated tensors, and the first peers of
// a run.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "train/config.h"
#include "train/definition.h"
#include "train/trainer.h"
#include "unit/train_fake_run.h"

using namespace pccl::train;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

namespace {

std::array<float, 64> memory{};

std::vector<Parameter> two_parameters() {
    return {{"a", memory.data(), 6, pcclFloat}, {"b", memory.data() + 8, 2, pcclBFloat16}};
}

std::vector<pcclTensorInfo_t> state_of(const std::vector<std::string> &names) {
    std::vector<pcclTensorInfo_t> state;
    for (const std::string &name : names) {
        pcclTensorInfo_t info{};
        info.name = name.c_str();
        state.push_back(info);
    }
    return state;
}

std::unique_ptr<Trainer> make_trainer(FakeRun &run, int id, std::vector<Parameter> parameters, std::uint32_t min_peers) {
    pcclTrainerConfig_t config;
    set_defaults(config, pcclMethodDiLoCo);
    config.sync_every = 1;
    config.min_peers = min_peers;
    config.rejoin_ms = 0;
    config.outer_optimizer = pcclOuterSgd;
    config.outer_learning_rate = 1.0F;
    config.outer_momentum = 0.0F;
    std::unique_ptr<Trainer> trainer;
    EXPECT_TRUE(Trainer::make(config, run.peer(id), std::move(parameters), trainer).ok());
    return trainer;
}

}  // namespace

TEST(Definition, HasALinePerParameterAndALastName) {
    EXPECT_THAT(lines_of(two_parameters()), ElementsAre("a, 6 elements of float32", "b, 2 elements of bfloat16"));
    const auto names = definition_names(lines_of(two_parameters()), two_parameters());
    EXPECT_THAT(names, ElementsAre("pccl.tensor 0: a, 6 elements of float32", "pccl.tensor 1: b, 2 elements of bfloat16",
                                   StartsWith("pccl.tensors: 2 in all, definition ")));
}

TEST(Definition, LastNameDiffersIfLinesOrParametersDiffer) {
    const auto end = [](const std::vector<std::string> &lines, const std::vector<Parameter> &parameters) {
        return definition_names(lines, parameters).back();
    };
    const auto usual = end({"x"}, two_parameters());
    auto other = two_parameters();
    other[1].count = 3;
    EXPECT_NE(end({"x"}, other), usual);
    other = two_parameters();
    std::swap(other[0], other[1]);
    EXPECT_NE(end({"x"}, other), usual);
    EXPECT_NE(end({"y"}, two_parameters()), usual);
}

TEST(Definition, LinesBeyondALimitAreCutAndHashed) {
    const std::string line(5000, 'n');
    const auto names = definition_names({line + "1"}, two_parameters()),
               others = definition_names({line + "2"}, two_parameters());
    EXPECT_LE(names.front().size(), 1000U);
    EXPECT_NE(names.front(), others.front());
    std::vector<std::string> many(70'000, "line");
    const auto first = definition_names(many, two_parameters());
    EXPECT_LT(first.size(), 20'000U);
    many.back() = "another";
    const auto second = definition_names(many, two_parameters());
    EXPECT_TRUE(std::equal(first.begin(), first.end() - 1, second.begin()));
    EXPECT_NE(first.back(), second.back());
}

TEST(Definition, RefusalNamesBothValues) {
    const std::vector<std::string> names = {"pccl.trainer: DiLoCo", "pccl.tensor 0: it's [4, 8], trained",
                                            "pccl.tensors: 1 in all"};
    const auto mine = state_of(names);
    const std::string why = "pcclSynchronizeSharedState: peer 2 was removed: its tensor 1 is 'pccl.tensor 0: it's [4, 8], "
                            "trained' (type 0, 1 elements) and the "
                            "group's is 'pccl.tensor 0: it's [8, 4], trained' (type 0, 1 elements)";
    EXPECT_THAT(explain_refusal(why, mine),
                HasSubstr("here \"tensor 0: it's [4, 8], trained\", in the run \"tensor 0: it's [8, 4], trained\""));
    const std::string lacks = "peer 2 was removed: it lacks the group's tensor 3, 'more' (type 0, 1 elements)";
    EXPECT_THAT(explain_refusal(lacks, mine), HasSubstr("here \"nothing\", in the run \"more\""));
}

TEST(Definition, OtherReasonsAreNotChanged) {
    const auto mine = state_of({"pccl.trainer: DiLoCo"});
    for (const std::string why :
         {"peer 2 was removed: it offers revision 3 where 4 is expected", "its tensor 9 is 'x' (type 0, 1 elements)",
          "its tensor x", "", "its tensor 0 is 'something else' (type 0, 1 elements) and the group's is 'y' (type 0, 1 elements)",
          "it lacks the group's tensor 1"})
        EXPECT_EQ(explain_refusal(why, mine), why);
}

TEST(Definition, LinesAreAcceptedOnlyBeforeJoining) {
    FakeRun run;
    const auto trainer = make_trainer(run, 0, two_parameters(), 1);
    const char *const lines[] = {"a [2, 3]", nullptr};
    EXPECT_TRUE(trainer->define(lines, 1).ok());
    EXPECT_THAT(trainer->define(lines, 2).why, HasSubstr("lines[1] is NULL"));
    EXPECT_THAT(trainer->define(nullptr, 1).why, HasSubstr("lines is NULL"));
    ASSERT_TRUE(trainer->join().ok());
    EXPECT_EQ(trainer->define(lines, 1).code, pcclInvalidUsage);
}

TEST(Relocate, TrainerUsesOnlyTheNewAddress) {
    FakeRun run;
    std::array<float, 4> old{1, 2, 3, 4}, now{};
    std::array<std::uint8_t, 2> shared{1, 2}, moved{3, 4};
    const auto trainer = make_trainer(run, 0, {{"w", old.data(), 4, pcclFloat}}, 1);
    pcclTensorInfo_t info{};
    info.name = "position";
    info.data = shared.data();
    info.count = 2;
    info.datatype = pcclUint8;
    ASSERT_TRUE(trainer->share(&info, 1).ok());
    ASSERT_TRUE(trainer->join().ok());
    now = {5, 6, 7, 8};
    ASSERT_TRUE(trainer->relocate("w", now.data()).ok());
    ASSERT_TRUE(trainer->relocate("position", moved.data()).ok());
    ASSERT_TRUE(trainer->step(false).ok());
    EXPECT_THAT(old, ElementsAre(1, 2, 3, 4));
    std::array<float, 4> outer{};
    ASSERT_TRUE(trainer->outer_parameters(0, outer.data()).ok());
    EXPECT_THAT(outer, ElementsAre(5, 6, 7, 8));
    EXPECT_THAT(trainer->relocate("v", now.data()).why, HasSubstr("'v'"));
    EXPECT_EQ(trainer->relocate("w", nullptr).code, pcclInvalidArgument);
}

TEST(Join, UsesTheParametersOfThatMoment) {
    FakeRun run;
    std::array<float, 2> w{1, 2};
    const auto trainer = make_trainer(run, 0, {{"w", w.data(), 2, pcclFloat}}, 1);
    w = {3, 4};  // for example from a checkpoint of the caller
    ASSERT_TRUE(trainer->join().ok());
    EXPECT_THAT(w, ElementsAre(3, 4));
}

TEST(Founding, FirstPeersBeginWithOneVersionOfSharedTensors) {
    FakeRun run;
    std::array<std::array<float, 2>, 2> w{};
    std::array<std::uint8_t, 2> buffers{10, 20};
    std::array<std::uint8_t, 2> at_join{};
    std::array<std::thread, 2> peers;
    for (int id = 0; id < 2; ++id) {
        peers[static_cast<std::size_t>(id)] = std::thread([&, id, i = static_cast<std::size_t>(id)] {
            const auto trainer = make_trainer(run, id, {{"w", w[i].data(), 2, pcclFloat}}, 2);
            pcclTensorInfo_t info{};
            info.name = "buffer";
            info.data = &buffers[i];
            info.count = 1;
            info.datatype = pcclUint8;
            info.allow_content_inequality = true;
            EXPECT_TRUE(trainer->share(&info, 1).ok());
            EXPECT_TRUE(trainer->join().ok());
            at_join[i] = buffers[i];
            buffers[i] = static_cast<std::uint8_t>(30 + id);  // after this call they may differ
            EXPECT_TRUE(trainer->step(false).ok());
            EXPECT_TRUE(trainer->finish().ok());
            run.leave(id);
        });
    }
    for (std::thread &peer : peers)
        peer.join();
    EXPECT_EQ(at_join[0], at_join[1]);
    EXPECT_THAT(buffers, ElementsAre(30, 31));
}
