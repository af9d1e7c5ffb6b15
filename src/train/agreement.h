// Decisions that the processes of an island make together (pcclIslandConsensus_t). The processes of an island hold one copy of
// the model, and each is in a group of its own.
//
// Guarantee: all processes of an island get the same answer to each question, or all get a failure. After a failure no further
// question is asked until begin(). A process without an island agrees with itself. One thread uses this.
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
    /// Sets `flag` if it is set in any process of the island.
    Outcome any(Question question, bool &flag);
    /// The outcome of a call for the whole island. `mine` is the outcome in this process. A failure in one process is a failure
    /// in all.
    Outcome conclude(Outcome mine);
    /// The island is complete again: questions can be asked.
    void begin() { broken_ = false; }

private:
    Outcome ask(Question question, std::uint64_t &value);

    const pcclIslandConsensus_t agree_;
    void *const context_;
    bool broken_ = false;
};

}  // namespace pccl::train
