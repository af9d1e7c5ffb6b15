// A question to the master that is asked while its owner does something else: a round trip that nobody waits for.
//
// One question at a time. One thread owns it and calls; a thread of its own asks.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "train/outcome.h"

namespace pccl::train {

class Question {
public:
    using Ask = std::function<Outcome(bool &answer)>;

    /// `ask` blocks for the answer. `abort` makes it return.
    Question(Ask ask, std::function<void()> abort);
    ~Question() { drop(); }
    Question(const Question &) = delete;
    Question &operator=(const Question &) = delete;

    /// Nothing if it is asked already.
    void begin();
    bool asked() const { return thread_.joinable(); }
    /// Waits for the answer to the question that was begun.
    Outcome answer(bool &out);
    /// Nobody wants to know any more. Where no answer comes soon, the call is aborted.
    void drop();

private:
    const Ask ask_;
    const std::function<void()> abort_;
    std::mutex mutex_;
    std::condition_variable over_;
    bool done_ = false;
    bool answer_ = false;
    Outcome outcome_;
    std::thread thread_;
};

}  // namespace pccl::train
