// A question to the master that is asked while its owner does something else: a round trip that nobody waits for.
//
// One question at a time. One thread owns it and calls; a worker asks.
#pragma once

#include <functional>
#include <memory>

#include "train/outcome.h"
#include "train/worker.h"

namespace pccl::train {

class Question {
public:
    using Ask = std::function<Outcome(bool &answer)>;

    /// `ask` blocks for the answer. `abort` makes it return.
    Question(std::unique_ptr<Worker> worker, Ask ask, std::function<void()> abort);
    ~Question() { drop(); }
    Question(const Question &) = delete;
    Question &operator=(const Question &) = delete;

    /// Nothing if it is asked already.
    void begin();
    bool asked() const { return worker_->pending() != 0; }
    /// Waits for the answer to the question that was begun.
    Outcome answer(bool &out);
    /// Nobody wants to know any more. Where no answer comes soon, the call is aborted.
    void drop();

private:
    const Ask ask_;
    const std::function<void()> abort_;
    bool answer_ = false;
    Outcome outcome_;
    const std::unique_ptr<Worker> worker_;
};

}  // namespace pccl::train
