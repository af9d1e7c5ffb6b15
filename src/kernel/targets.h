// The instruction sets for which the kernels are compiled. Include before any Highway header, in every file that uses Highway.
//
// On x86-64 with Highway 1.0: a baseline without vectors, SSE4, AVX2 and AVX3 (AVX-512 F/BW/CD/DQ/VL). Other targets
// add no instruction that the kernels use, only compile time. hash.cc keeps vectors in arrays, which is impossible for vectors of
// unknown length (SVE, RVV). NEON runs on all machines that have SVE.
#pragma once

#include <hwy/detect_targets.h>  // only the names

#ifdef HWY_AVX3_ZEN4
#define PCCL_KERNEL_NEWER_AVX3 (HWY_AVX3_DL | HWY_AVX3_ZEN4)
#else
#define PCCL_KERNEL_NEWER_AVX3 HWY_AVX3_DL
#endif
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | PCCL_KERNEL_NEWER_AVX3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
