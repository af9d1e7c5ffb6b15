/* Socket addresses as plain data. The interface needs no platform header for them. The names are those of version 1. */
#ifndef PCCL_ADDRESS_H
#define PCCL_ADDRESS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The address family. */
typedef enum ccoip_inet_protocol_t {
    inetIPv4, /**< `ipv4` is used; the value of a zeroed structure */
    inetIPv6  /**< `ipv6` is used */
} ccoip_inet_protocol_t;

/** An IPv4 address: four bytes in network order. 127.0.0.1 is {127, 0, 0, 1}. */
typedef struct ccoip_ipv4_address_t {
    uint8_t data[4]; /**< first byte of the address first */
} ccoip_ipv4_address_t;

/** An IPv6 address: sixteen bytes in network order. */
typedef struct ccoip_ipv6_address_t {
    uint8_t data[16]; /**< first byte of the address first */
} ccoip_ipv6_address_t;

/** An IPv4 or IPv6 address. A zeroed structure is 0.0.0.0. */
typedef struct ccoip_inet_address_t {
    ccoip_inet_protocol_t protocol; /**< selects `ipv4` or `ipv6`; the other is ignored */
    ccoip_ipv4_address_t ipv4;      /**< the address if `protocol` is inetIPv4 */
    ccoip_ipv6_address_t ipv6;      /**< the address if `protocol` is inetIPv6 */
} ccoip_inet_address_t;

/** An address and a TCP port. */
typedef struct ccoip_socket_address_t {
    ccoip_inet_address_t inet; /**< the address */
    uint16_t port;             /**< in host byte order */
} ccoip_socket_address_t;

#ifdef __cplusplus
}
#endif

#endif
