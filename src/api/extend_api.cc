// Errors and warnings of layers on top of the C interface. They go where the library's own go.
#include <pccl/extend.h>

#include "api/state.h"
#include "base/log.h"
#include "peer/wait_hook.h"

void pcclSetLastError(const char *words) {
    static_cast<void>(pccl::api::guarded([&] { return pccl::api::fail(pcclSuccess, words ? words : ""); }));
}

void pcclPollWaitHook() {
    const auto hook = pccl::peer::wait_hook();
    if (hook.function) hook.function(hook.context);
}

void pcclLogWarning(const char *words) {
    static_cast<void>(pccl::api::guarded([&] {
        if (words) PCCL_LOG_WARN("%s", words);
        return pcclSuccess;
    }));
}
