// Runs a test body once on every instruction set that this machine has and Highway compiles for.
#pragma once

#include <cstdint>

#include <hwy/highway.h>

#include <gtest/gtest.h>

namespace pccl::test {

/// Calls `body(target)`; failures name the target. `chosen` returns the target that the code under test selects.
template <class Body> void on_every_target(const char *(*chosen)(), Body body) {
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
        hwy::SetSupportedTargetsForTest(target);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
        SCOPED_TRACE(hwy::TargetName(target));
        ASSERT_STREQ(chosen(), hwy::TargetName(target));
        body(target);
    }
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace pccl::test
