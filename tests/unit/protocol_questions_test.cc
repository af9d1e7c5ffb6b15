#include "protocol/questions.h"

#include <gtest/gtest.h>

namespace pccl::protocol {
namespace {

constexpr GroupId kA{0}, kB{1};

TEST(Questions, FirstAnswerHoldsForAllMembers) {
    Questions questions;
    EXPECT_FALSE(questions.ask(kA, 0, false));
    EXPECT_FALSE(questions.ask(kA, 0, true)) << "the same question of another member";
    EXPECT_TRUE(questions.ask(kA, 1, true));
    EXPECT_TRUE(questions.ask(kA, 1, false));
}

TEST(Questions, YesIsFinalForTheGeneration) {
    Questions questions;
    EXPECT_TRUE(questions.ask(kA, 0, true));
    EXPECT_TRUE(questions.ask(kB, 0, false));
    EXPECT_TRUE(questions.ask(kA, 1, false));
    questions.clear();
    EXPECT_FALSE(questions.ask(kA, 0, false));
}

TEST(Questions, GroupAheadOfAnotherFixesItsOwnAnswers) {
    Questions questions;
    for (std::uint64_t k = 0; k < 5; ++k)
        EXPECT_FALSE(questions.ask(kA, k, false));
    EXPECT_TRUE(questions.ask(kB, 0, true)) << "the run's answer to question 0 was no";
    EXPECT_TRUE(questions.ask(kA, 5, false));
}

TEST(Questions, AnswersSurviveARestart) {
    Questions questions;
    questions.restore(kA, 4, 2);
    questions.restore(kA, 3, std::nullopt);
    EXPECT_FALSE(questions.ask(kA, 1, true));
    EXPECT_TRUE(questions.ask(kA, 2, false));
    EXPECT_TRUE(questions.ask(kB, 4, false));
}

}  // namespace
}  // namespace pccl::protocol
