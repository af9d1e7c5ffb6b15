/* One peer of a run. Start pccl-master, then any number of these, on any machine, at any time: hello HOST[:PORT] [STEPS] */
#include <pccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { COUNT = 1 << 16 };
static float weights[COUNT], update[COUNT];

static void check(const char *call, pcclResult_t result) {
    if (result == pcclSuccess) return;
    fprintf(stderr, "%s: %s (%s)\n", call, pcclGetErrorString(result), pcclGetLastError());
    exit(1);
}

int main(int argc, char **argv) {
    const uint64_t steps = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;
    const float target = (float)(getpid() % 100); /* in place of data: the value to which this peer trains the weights */
    uint64_t step = 0;                            /* the step of the whole run: part of the shared state */
    pcclTensorInfo_t tensors[] = {{"weights", weights, COUNT, pcclFloat, pcclDeviceCpu, false},
                                  {"step", &step, 1, pcclUint64, pcclDeviceCpu, false}};
    pcclSharedState_t state = {0, 2, tensors};
    /* [readme] */
    const pcclReduceDescriptor_t average = {.count = COUNT, .op = pcclAvg, .src_descriptor = {pcclFloat, pcclDistributionNone}};
    /* [/readme] */

    pcclCommConfig_t config;
    pcclComm_t *comm = NULL;
    check("pcclInit", pcclInit());
    check("pcclCommConfigInit", pcclCommConfigInit(&config));
    config.master_address = argc > 1 ? argv[1] : "127.0.0.1";
    /* [readme] */
    check("pcclCreateCommunicatorWithConfig", pcclCreateCommunicatorWithConfig(&config, &comm));
    check("pcclConnect", pcclConnect(comm)); /* blocks until the members admit this peer */
    /* [/readme] */

    for (bool newcomer = true; step < steps; newcomer = false) {
        bool pending = false; /* every member receives the same answer; a newcomer skips the question */
        if (!newcomer) check("pcclArePeersPending", pcclArePeersPending(comm, &pending));
        if (pending) check("pcclUpdateTopology", pcclUpdateTopology(comm));

        int world = 0;
        check("pcclGetAttribute", pcclGetAttribute(comm, PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE, &world));
        if (world < 2) { /* alone: wait for others */
            sleep(1);
            continue;
        }

        /* All members continue from the same weights and step. Only what a peer lacks is sent to it. */
        check("pcclSynchronizeSharedState",
              pcclSynchronizeSharedState(comm, &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, NULL));
        state.revision++;

        for (int i = 0; i < COUNT; i++)
            update[i] = 0.1f * (target - weights[i]); /* train here */

        pcclReduceInfo_t info = {0};
        pcclResult_t result;
        /* [readme] */
        do {
            result = pcclAllReduce(update, update, &average, comm, &info); /* in place */
        } while (result == pcclRankConnectionLost); /* a peer was lost and `update` is intact: the survivors average again */
        if (result == pcclTooFewPeers) continue;    /* all other peers were lost */
        check("pcclAllReduce", result);
        /* [/readme] */

        for (int i = 0; i < COUNT; i++)
            weights[i] += update[i];
        step++;
        printf("step %llu: %u peers, weight %.3f\n", (unsigned long long)step, info.local_world_size, weights[0]);
        fflush(stdout);
    }
    check("pcclDestroyCommunicator", pcclDestroyCommunicator(comm)); /* leaves the run; the others continue */
    return 0;
}
