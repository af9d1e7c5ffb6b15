/* A peer that joins, prints the size of the world, and leaves. */
#include <pccl.h>

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    unsigned data[4], port;
    pcclCommCreateParams_t params;
    pcclComm_t *comm = NULL;
    int world = 0;
    if (argc != 2 || sscanf(argv[1], "%u.%u.%u.%u:%u", &data[0], &data[1], &data[2], &data[3], &port) != 5) return 64;
    memset(&params, 0, sizeof params);
    params.master_address.inet.protocol = inetIPv4;
    for (int i = 0; i < 4; ++i)
        params.master_address.inet.ipv4.data[i] = (uint8_t)data[i];
    params.master_address.port = (uint16_t)port;
    if (pcclInit() != pcclSuccess || pcclCreateCommunicator(&params, &comm) != pcclSuccess) return 1;
    if (pcclConnect(comm) != pcclSuccess) return 2;
    if (pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &world) != pcclSuccess) return 3;
    printf("world %d\n", world);
    return pcclDestroyCommunicator(comm) == pcclSuccess ? 0 : 4;
}
