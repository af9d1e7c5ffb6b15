/* A master program in the style of version 1: no pcclInit, a listening address, and a signal handler that interrupts it. */
#include <pccl.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pcclMasterInstance_t *master;

static void on_signal(int number) {
    (void)number;
    pcclInterruptMaster(master);
}

static void must(pcclResult_t result, const char *call) {
    if (result == pcclSuccess) return;
    fprintf(stderr, "%s returned %d\n", call, (int)result);
    exit(EXIT_FAILURE);
}

/* Programs use PCCL_NULLABLE for parameters of their own functions. */
static void describe(const pcclBuildInfo_t *PCCL_NULLABLE info) {
    if (info) printf("cuda: %s\n", info->has_cuda_support ? "yes" : "no");
}

int main(int argc, char **argv) {
    unsigned data[4], port;
    pcclBuildInfo_t build;
    ccoip_socket_address_t address;
    if (argc != 2 || sscanf(argv[1], "%u.%u.%u.%u:%u", &data[0], &data[1], &data[2], &data[3], &port) != 5) return 64;
    memset(&address, 0, sizeof address);
    address.inet.protocol = inetIPv4;
    for (int i = 0; i < 4; ++i)
        address.inet.ipv4.data[i] = (uint8_t)data[i];
    address.port = (uint16_t)port;

    must(pcclGetBuildInfo(&build), "pcclGetBuildInfo");
    describe(&build);
    must(pcclCreateMaster(address, &master), "pcclCreateMaster");
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    must(pcclRunMaster(master), "pcclRunMaster");
    must(pcclMasterAwaitTermination(master), "pcclMasterAwaitTermination");
    must(pcclDestroyMaster(master), "pcclDestroyMaster");
    puts("ended");
    return EXIT_SUCCESS;
}
