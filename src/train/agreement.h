// What the processes of an island decide together (pcclIslandConsensus_t): those that hold one copy of the model, each in a group of its own.
//
// Guarantee: all processes of an island are given the same answer to each question, or all are given a failure, from which on nothing is asked
// any more. Alone, a process agrees with itself. One thread.
#pragma once

#include <cstdint>

#include <pccl/train.h>

#include "train/outcome.h"

namespace pccl::train {

class Agreement {
public:
    enum class Question : std::uint32_t { newcomers = 1, world, repair, outcome };

    Agreement(pcclIslandConsensus_t agree, void *context) : agree_(agree), context_(context) {}

    bool alone() const { return !agree_; }
    /// Replaces a value above 0 by the smallest that any process of the island has.
    Outcome smallest(Question question, std::uint64_t &value);
    /// Whether any of them says so.
    Outcome any(Question question, bool &flag);
    /// What a call comes to that came to `mine` here: a failure at one is one at all.
    Outcome conclude(Outcome mine);
    /// The island is there once more.
    void begin() { broken_ = false; }

private:
    Outcome ask(Question question, std::uint64_t &value);

    const pcclIslandConsensus_t agree_;
    void *const context_;
    bool broken_ = false;
};

}  // namespace pccl::train
