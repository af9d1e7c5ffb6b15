#include "base/assert.h"

#include <gtest/gtest.h>

namespace pccl {
namespace {

class Assert : public testing::Test {
protected:
    ~Assert() override { abort_on_broken_invariants(before_); }
    const bool before_ = aborts_on_broken_invariants();
};

TEST_F(Assert, TrueConditionDoesNothing) {
    int evaluated = 0;
    PCCL_ASSERT(++evaluated == 1);
    EXPECT_EQ(evaluated, 1);
}

TEST_F(Assert, BrokenInvariantThrowsInATrainersProcess) {
    abort_on_broken_invariants(false);
    const int bytes = 3;
    try {
        PCCL_ASSERT(bytes < 2);
        FAIL();
    } catch (const BrokenInvariant &broken) {
        EXPECT_NE(std::string(broken.what()).find("broken invariant: bytes < 2 at "), std::string::npos) << broken.what();
    }
}

TEST_F(Assert, BrokenInvariantAbortsACheckedProcess) {
    abort_on_broken_invariants(true);
    EXPECT_DEATH(PCCL_ASSERT(1 > 2), "broken invariant: 1 > 2 at ");
}

}  // namespace
}  // namespace pccl
