// Every type and operator is compared with double arithmetic, for several world sizes and counts, including counts below the
// world size; in place and out of place; at odd addresses. All peers must hold the same bits.
#include "harness/world.h"

namespace pccl::itest {
namespace {

class ReduceMatrix : public ::testing::TestWithParam<int> {};

TEST_P(ReduceMatrix, EveryTypeAndOperatorIsExactAndBitIdentical) {
    const int peers = GetParam();
    World world;
    world.join(peers);
    std::vector<Json> requests;
    for (int rank = 0; rank < peers; ++rank) {
        requests.push_back({{"rank", rank}, {"ranks", peers}, {"counts", {1, 2, 7, 1000, 100003}}});
    }
    const auto answers = world.call_each("matrix", requests, Millis(80000));
    for (const Json &answer : answers)
        EXPECT_EQ(answer.value("failures", Json::array()), Json::array());
    EXPECT_TRUE(all_same(answers, "hash"));
    EXPECT_EQ(answers[0].value("cases", 0), 12 * 5 * 5 * 2);
}

INSTANTIATE_TEST_SUITE_P(Peers, ReduceMatrix, ::testing::Values(2, 3, 4, 8), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace pccl::itest
