// A question to the master that is asked in the background, so that its owner does not wait for the round trip.
//
// At most one question is in flight. One thread owns the object and calls it; a worker asks.
#pragma once

#include <functional>
#include <memory>

#include "train/outcome.h"
#include "train/worker.h"

namespace pccl::train {

class Question {
public:
    using Ask = std::function<Outcome(bool &answer)>;

    /// `ask` blocks until the answer. `abort` makes it return.
    Question(std::unique_ptr<Worker> worker, Ask ask, std::function<void()> abort);
    ~Question() { drop(); }
    Question(const Question &) = delete;
    Question &operator=(const Question &) = delete;

    /// Asks, unless the question is in flight.
    void begin();
    bool asked() const { return worker_->pending() != 0; }
    /// Waits for the answer to the question that was begun.
    Outcome answer(bool &out);
    /// Discards the answer. If it does not arrive within a short time, the call is aborted.
    void drop();

private:
    const Ask ask_;
    const std::function<void()> abort_;
    bool answer_ = false;
    Outcome outcome_;
    const std::unique_ptr<Worker> worker_;
};

}  // namespace pccl::train
