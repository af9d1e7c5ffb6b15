/* Default TCP ports.
 *
 * A master listens on CCOIP_PROTOCOL_PORT_MASTER. A peer listens on one port for everything: the first that is free from
 * CCOIP_PROTOCOL_PORT_SHARED_STATE upward, unless its configuration names a range. The other two names are kept for programs
 * that mention them. */
#ifndef PCCL_PORTS_H
#define PCCL_PORTS_H

#define CCOIP_PROTOCOL_PORT_MASTER 48148
#define CCOIP_PROTOCOL_PORT_SHARED_STATE 48149
#define CCOIP_PROTOCOL_PORT_P2P 48150
#define CCOIP_PROTOCOL_PORT_BANDWIDTH_BENCHMARK 48151

#endif
