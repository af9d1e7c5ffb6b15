/* Code that the programs of this folder share: checks, a master in this process, peers that join it. It uses only version 1's
 * interface. */
#ifndef PCCL_TESTS_COMPAT_PEERS_H
#define PCCL_TESTS_COMPAT_PEERS_H

#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <pccl.h>

/* Ends the program from any thread. */
#define EXPECT(condition)                                                                                                        \
    do {                                                                                                                         \
        if (!(condition)) {                                                                                                      \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                              \
            exit(1);                                                                                                             \
        }                                                                                                                        \
    } while (0)
#define SUCCEED(call) EXPECT((call) == pcclSuccess)

static ccoip_socket_address_t free_address(void) {
    struct sockaddr_in any;
    socklen_t length = sizeof any;
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    ccoip_socket_address_t address = {{inetIPv4, {{127, 0, 0, 1}}, {{0}}}, 0};
    memset(&any, 0, sizeof any);
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT(bind(listener, (struct sockaddr *)&any, sizeof any) == 0);
    EXPECT(getsockname(listener, (struct sockaddr *)&any, &length) == 0);
    close(listener);
    address.port = ntohs(any.sin_port);
    return address;
}

static pcclMasterInstance_t *start_master(ccoip_socket_address_t address) {
    pcclMasterInstance_t *master = NULL;
    SUCCEED(pcclCreateMaster(address, &master));
    SUCCEED(pcclRunMaster(master));
    return master;
}

static void end_master(pcclMasterInstance_t *master) {
    SUCCEED(pcclInterruptMaster(master));
    SUCCEED(pcclMasterAwaitTermination(master));
    SUCCEED(pcclDestroyMaster(master));
}

static pcclComm_t *join(ccoip_socket_address_t address) {
    pcclCommCreateParams_t params = {address, 0, 0};
    pcclComm_t *comm = NULL;
    SUCCEED(pcclCreateCommunicator(&params, &comm));
    SUCCEED(pcclConnect(comm));
    return comm;
}

static int world_size(const pcclComm_t *comm) {
    int world = 0;
    SUCCEED(pcclGetAttribute(comm, PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE, &world));
    return world;
}

/* The loop of a peer before each step: it admits newcomers until the world has that size. A peer that has just joined skips the
 * first update. */
static void gather(pcclComm_t *comm, int world, int just_joined) {
    const struct timespec moment = {0, 5000000};
    while (world_size(comm) < world) {
        bool pending = false;
        if (!just_joined) SUCCEED(pcclArePeersPending(comm, &pending));
        if (pending) SUCCEED(pcclUpdateTopology(comm));
        if (world_size(comm) < world) nanosleep(&moment, NULL);
        just_joined = 0;
    }
}

static pcclReduceDescriptor_t sum_of(size_t count, uint64_t tag) {
    const pcclReduceDescriptor_t descriptor = {
        count, pcclSum, tag, {pcclFloat, pcclDistributionNone}, {pcclFloat, pcclQuantNone}};
    return descriptor;
}

#endif
