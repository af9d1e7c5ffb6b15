// See train/question.h.
#include "train/question.h"

#include <chrono>
#include <utility>

namespace pccl::train {
namespace {

constexpr auto kPatience = std::chrono::seconds(1);

}  // namespace

Question::Question(std::unique_ptr<Worker> worker, Ask ask, std::function<void()> abort)
    : ask_(std::move(ask)), abort_(std::move(abort)), worker_(std::move(worker)) {}

void Question::begin() {
    if (asked()) return;
    worker_->begin([this] {
        answer_ = false;
        outcome_ = ask_(answer_);
    });
}

Outcome Question::answer(bool &out) {
    worker_->wait();
    out = answer_;
    return std::move(outcome_);
}

void Question::drop() { worker_->drop(abort_, kPatience); }

}  // namespace pccl::train
