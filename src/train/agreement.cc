// See train/agreement.h.
#include "train/agreement.h"

#include <pccl/pccl.h>

namespace pccl::train {

Outcome Agreement::ask(Question question, std::uint64_t &value) {
    const auto code = agree_(context_, static_cast<std::uint32_t>(question), &value);
    broken_ = code != pcclSuccess || value == 0;
    if (code != pcclSuccess) return outcome_of(code, "the consensus of this island failed");
    return broken_
               ? Outcome{pcclMasterConnectionFailed, "another process of this island failed, so the whole island leaves the run"}
               : Outcome{};
}

Outcome Agreement::smallest(Question question, std::uint64_t &value) { return alone() ? Outcome{} : ask(question, value); }

Outcome Agreement::any(Question question, bool &flag) {
    std::uint64_t value = flag ? 1 : 2;
    PCCL_TRAIN_TRY(smallest(question, value));
    flag = value == 1;
    return {};
}

Outcome Agreement::conclude(Outcome mine) {
    if (alone() || broken_) return mine;
    std::uint64_t value = mine.ok() ? 1 : 0;
    auto outcome = ask(Question::outcome, value);
    return mine.ok() ? outcome : mine;
}

}  // namespace pccl::train
