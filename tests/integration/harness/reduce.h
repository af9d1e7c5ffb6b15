// Reduces of tests: one request per peer, with ranks in the order of the peers.
#pragma once

#include "harness/world.h"

namespace pccl::itest {

/// `base` for each of `peers` ranks, so that inputs differ and results are checked.
inline std::vector<Json> ranked(int peers, const Json &base) {
    std::vector<Json> requests;
    for (int rank = 0; rank < peers; ++rank) {
        requests.push_back(base);
        requests.back()["rank"] = rank;
        requests.back()["ranks"] = peers;
    }
    return requests;
}

/// Whether all succeeded with the same bits and correct values.
inline ::testing::AssertionResult all_right(const std::vector<Json> &answers) {
    if (const auto same = all_same(answers, "hash"); !same) return same;
    for (const Json &answer : answers) {
        if (answer.value("wrong", 0) != 0) return ::testing::AssertionFailure() << "wrong sums: " << answer.dump();
    }
    return ::testing::AssertionSuccess();
}

}  // namespace pccl::itest
