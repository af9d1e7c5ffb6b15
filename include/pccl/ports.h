/* Default TCP ports. The names are those of version 1.
 *
 * A master listens on CCOIP_PROTOCOL_PORT_MASTER. A peer listens on one port for all its connections: the first free port from
 * CCOIP_PROTOCOL_PORT_SHARED_STATE upward, unless pcclCommConfig_t names a range. The other two names are unused. They exist
 * because programs written for version 1 may mention them. */
#ifndef PCCL_PORTS_H
#define PCCL_PORTS_H

#define CCOIP_PROTOCOL_PORT_MASTER 48148
#define CCOIP_PROTOCOL_PORT_SHARED_STATE 48149
#define CCOIP_PROTOCOL_PORT_P2P 48150
#define CCOIP_PROTOCOL_PORT_BANDWIDTH_BENCHMARK 48151

#endif
