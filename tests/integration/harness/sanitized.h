// Sanitizers slow programs down and take memory of their own: what tests bound in time and memory is bounded more loosely there.
#pragma once

namespace pccl::itest {

#ifdef PCCL_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
inline constexpr int kSlowdown = kSanitized ? 10 : 1;

}  // namespace pccl::itest
