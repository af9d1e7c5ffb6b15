/* For layers on top of the library, such as language bindings. They report errors and warnings in the same places as the library.
 */
#ifndef PCCL_EXTEND_H
#define PCCL_EXTEND_H

#include <pccl/pccl.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Sets the text that pcclGetLastError returns on the calling thread. Does not need pcclInit.
 * @param[in] words  Copied. NULL sets "". */
PCCL_EXPORT void pcclSetLastError(const char *words);

/** Writes a warning to the library's log. Thread-safe.
 * @param[in] words  Copied. NULL does nothing. */
PCCL_EXPORT void pcclLogWarning(const char *words);

/** Calls the hook that pcclSetWaitHook set for the calling thread. Does nothing if there is none. A layer that blocks in its own
 * code calls this about 20 times a second while it blocks. */
PCCL_EXPORT void pcclPollWaitHook(void);

#ifdef __cplusplus
}
#endif

#endif
