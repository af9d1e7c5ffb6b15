// Sets structures that grow to their defaults. The macros of the header pass the caller's size. The functions with the plain
// names are for programs that call them without the header.
#include "api/structures.h"

#include <pccl/ports.h>

namespace pccl::api {

void Growing<pcclMasterConfig_t>::set_defaults(pcclMasterConfig_t &config) {
    config.listen_address = "0.0.0.0:48148";
    static_assert(CCOIP_PROTOCOL_PORT_MASTER == 48148);
    config.heartbeat_timeout_ms = 10000;
    config.misuse_grace_ms = 10000;
    config.max_connections = 8192;
    config.recovery_window_ms = 10000;
    config.straggler_after_ms = 10000;
}

}  // namespace pccl::api

using pccl::api::init;
using pccl::api::size_in_2_0_0;

extern "C" {

pcclResult_t pcclCommConfigInitSized(pcclCommConfig_t *config, size_t struct_size) { return init(config, struct_size); }
pcclResult_t pcclMasterConfigInitSized(pcclMasterConfig_t *config, size_t struct_size) { return init(config, struct_size); }
pcclResult_t pcclReduceOptionsInitSized(pcclReduceOptions_t *options, size_t struct_size) { return init(options, struct_size); }
pcclResult_t pcclReduceReportInitSized(pcclReduceReport_t *report, size_t struct_size) { return init(report, struct_size); }

// In parentheses, because the names are also macros.
pcclResult_t(pcclCommConfigInit)(pcclCommConfig_t *config) { return init(config, size_in_2_0_0<pcclCommConfig_t>()); }
pcclResult_t(pcclMasterConfigInit)(pcclMasterConfig_t *config) { return init(config, size_in_2_0_0<pcclMasterConfig_t>()); }
pcclResult_t(pcclReduceOptionsInit)(pcclReduceOptions_t *options) { return init(options, size_in_2_0_0<pcclReduceOptions_t>()); }
pcclResult_t(pcclReduceReportInit)(pcclReduceReport_t *report) { return init(report, size_in_2_0_0<pcclReduceReport_t>()); }

}  // extern "C"
