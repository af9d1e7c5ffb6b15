/* The smallest program that uses the library: initialize, and read the version it was compiled for. */
#include <stdio.h>

#include <ccoip.h>
#include <pccl.h>

int main(void) {
    const int compiled_for = 10000 * PCCL_VERSION_MAJOR + 100 * PCCL_VERSION_MINOR + PCCL_VERSION_PATCH;
    int version = 0;
    if (pcclInit() != pcclSuccess || pcclGetVersion(&version) != pcclSuccess) {
        fprintf(stderr, "pccl failed: %s\n", pcclGetLastError());
        return 1;
    }
    printf("%d %d\n", version, CCOIP_PROTOCOL_PORT_MASTER);
    return version == compiled_for ? 0 : 1;
}
