/* For layers on top of the library, in C or any language: they report failures and warnings where the library's own go. */
#ifndef PCCL_EXTEND_H
#define PCCL_EXTEND_H

#include <pccl/pccl.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Makes `words` what pcclGetLastError returns on this thread. Copied; NULL is as "". */
PCCL_EXPORT void pcclSetLastError(const char *words);

/** Logs `words` as a warning. Copied; NULL does nothing. Any thread. */
PCCL_EXPORT void pcclLogWarning(const char *words);

/** Calls this thread's hook (pcclSetWaitHook), if it has one: for a layer that itself waits. About 20 times a second while it does. */
PCCL_EXPORT void pcclPollWaitHook(void);

#ifdef __cplusplus
}
#endif

#endif
