#include "train/question.h"

#include <chrono>
#include <utility>

namespace pccl::train {
namespace {

constexpr auto kPatience = std::chrono::seconds(1);
constexpr auto kRepeat = std::chrono::milliseconds(10);  // an abort between two attempts ends nothing

}  // namespace

Question::Question(Ask ask, std::function<void()> abort) : ask_(std::move(ask)), abort_(std::move(abort)) {}

void Question::begin() {
    if (asked()) return;
    done_ = false;
    thread_ = std::thread([this] {
        bool answer = false;
        Outcome outcome = ask_(answer);
        const std::lock_guard lock(mutex_);
        answer_ = answer;
        outcome_ = std::move(outcome);
        done_ = true;
        over_.notify_all();
    });
}

Outcome Question::answer(bool &out) {
    thread_.join();
    out = answer_;
    return std::move(outcome_);
}

void Question::drop() {
    if (!asked()) return;
    std::unique_lock lock(mutex_);
    for (auto wait = std::chrono::milliseconds(kPatience); !over_.wait_for(lock, wait, [this] { return done_; });
         wait = kRepeat) {
        lock.unlock();
        abort_();
        lock.lock();
    }
    lock.unlock();
    thread_.join();
}

}  // namespace pccl::train
