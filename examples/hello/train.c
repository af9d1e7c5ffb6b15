/* Trains with DiLoCo. Start pccl-master, then any number of these, on any machine, at any time: train HOST[:PORT] [OUTER STEPS]
 */
#include <pccl/train.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { COUNT = 1 << 16 };
static float weights[COUNT];

static void check(const char *call, pcclResult_t result) {
    if (result == pcclSuccess) return;
    fprintf(stderr, "%s: %s (%s)\n", call, pcclGetErrorString(result), pcclGetLastError());
    exit(1);
}

int main(int argc, char **argv) {
    const uint64_t steps = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;
    const float target = (float)(getpid() % 100); /* in place of data: the value to which this peer trains the weights */
    const pcclTensorInfo_t parameters[] = {{"weights", weights, COUNT, pcclFloat, pcclDeviceCpu, false}};

    pcclCommConfig_t network;
    pcclComm_t *comm = NULL;
    check("pcclInit", pcclInit());
    check("pcclCommConfigInit", pcclCommConfigInit(&network));
    network.master_address = argc > 1 ? argv[1] : "127.0.0.1";
    check("pcclCreateCommunicatorWithConfig", pcclCreateCommunicatorWithConfig(&network, &comm));

    pcclTrainerConfig_t config;
    pcclTrainer_t *trainer = NULL;
    pcclTrainerStatus_t status;
    check("pcclTrainerConfigInit", pcclTrainerConfigInit(&config, pcclMethodDiLoCo));
    config.sync_every = 10; /* inner steps; a real run takes 100 to 500 */
    config.min_peers = 2;
    check("pcclCreateTrainer", pcclCreateTrainer(&config, comm, parameters, 1, &trainer));
    check("pcclTrainerStatusInit", pcclTrainerStatusInit(&status));
    check("pcclTrainerJoin",
          pcclTrainerJoin(trainer)); /* blocks until the members admit this peer; then the weights are the run's */

    while (status.outer_steps < steps) {
        for (int i = 0; i < COUNT; i++)
            weights[i] += 0.01f * (target - weights[i]); /* an inner step */
        check("pcclTrainerStep", pcclTrainerStep(trainer, &status));
        if (status.events & PCCL_TRAINER_OUTER_STEP) {
            printf("step %llu: %u peers, weight %.3f\n", (unsigned long long)status.outer_steps, status.contributors, weights[0]);
            fflush(stdout);
        }
    }
    check("pcclTrainerFinish", pcclTrainerFinish(trainer, &status));
    pcclDestroyTrainer(trainer);
    check("pcclDestroyCommunicator", pcclDestroyCommunicator(comm));
    return 0;
}
