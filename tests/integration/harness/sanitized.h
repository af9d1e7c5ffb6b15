// Sanitizers slow programs down and use additional memory, so limits of time and memory are larger in builds with one.
#pragma once

namespace pccl::itest {

#ifdef PCCL_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
inline constexpr int kSlowdown = kSanitized ? 10 : 1;

}  // namespace pccl::itest
