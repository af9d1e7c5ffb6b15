// Questions to the master whose round trips are hidden behind inner steps.
#include "train/question.h"

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "unit/train_world.h"

namespace pccl::train {
namespace {

TEST(Question, IsAskedWhileItsOwnerContinues) {
    std::promise<void> answered;
    Question question(
        make_thread(),
        [&](bool &answer) {
            answered.get_future().wait();
            answer = true;
            return Outcome{};
        },
        [] {});
    EXPECT_FALSE(question.asked());
    question.begin();
    question.begin();  // has no effect: the question is in flight
    EXPECT_TRUE(question.asked());
    answered.set_value();
    bool answer = false;
    EXPECT_TRUE(question.answer(answer).ok());
    EXPECT_TRUE(answer);
    EXPECT_FALSE(question.asked());
}

TEST(Question, WithoutAnswerIsAbortedWhenDropped) {
    std::atomic<bool> aborted{false};
    Question question(
        make_thread(),
        [&](bool &) {
            aborted.wait(false);
            return Outcome{pcclRankConnectionLost, "aborted"};
        },
        [&] {
            aborted = true;
            aborted.notify_all();
        });
    question.begin();
    question.drop();
    EXPECT_FALSE(question.asked());
}

TEST(Question, IsAskedBeforeTheOuterStepIsDue) {
    for (const pcclMethod_t method : {pcclMethodDiLoCo, pcclMethodAsyncDiLoCo, pcclMethodCO2}) {
        World world(method);
        world.config.outer_learning_rate = 0.3F;
        std::atomic<bool> late{false};
        world.before_step = [&](Trainer &, int id, std::uint64_t step) {
            if (step % world.config.sync_every != world.config.sync_every - 1) return;
            const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
            while (world.run.questions(id) < step / world.config.sync_every + 1 && !late) {
                if (std::chrono::steady_clock::now() > limit) late = true;
                std::this_thread::sleep_for(std::chrono::microseconds(50));
            }
        };
        const auto logs = world.train(3);
        EXPECT_FALSE(late) << "method " << method;
        expect_parity(logs);
        for (const auto &[id, log] : logs)
            EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
    }
}

}  // namespace
}  // namespace pccl::train
