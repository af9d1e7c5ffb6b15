/* Three peers train, and the third never changes the revision of its shared state. It stays a member for all steps: each
 * synchronization gives it the others' revision, and their content if its own differs. The tag of each reduce is the number of
 * the step. */
#include "peers.h"

enum { kPeers = 3, kSteps = 60, kWeights = 1000 };

static ccoip_socket_address_t master_address;

static void *run(void *argument) {
    const int forgets = *(const int *)argument == kPeers - 1;
    static const char name[] = "weights";
    float weights[kWeights] = {0}, gradient[kWeights];
    pcclComm_t *comm = join(master_address);
    gather(comm, kPeers, 1);

    pcclTensorInfo_t info = {name, weights, kWeights, pcclFloat, pcclDeviceCpu, false};
    pcclSharedState_t state = {0, 1, &info};
    for (int step = 0; step < kSteps; ++step) {
        const int differs = forgets && step % 4 == 3;
        pcclSharedStateSyncInfo_t sync = {99, 99};
        if (differs) weights[0] += 5;
        SUCCEED(pcclSynchronizeSharedState(comm, &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, &sync));
        EXPECT(state.revision == (uint64_t)step);
        EXPECT(sync.rx_bytes == (differs ? sizeof weights : 0));
        if (forgets) EXPECT(sync.tx_bytes == 0);
        EXPECT(weights[0] == (float)(kPeers * step) && weights[kWeights - 1] == weights[0]);

        for (int i = 0; i < kWeights; ++i)
            gradient[i] = 1;
        const pcclReduceDescriptor_t descriptor = sum_of(kWeights, (uint64_t)step);
        pcclReduceInfo_t reduced;
        SUCCEED(pcclAllReduce(gradient, gradient, &descriptor, comm, &reduced));
        EXPECT(reduced.local_world_size == kPeers);
        for (int i = 0; i < kWeights; ++i)
            weights[i] += gradient[i];
        if (!forgets) ++state.revision;
    }
    SUCCEED(pcclDestroyCommunicator(comm));
    return NULL;
}

int main(void) {
    pthread_t threads[kPeers];
    int numbers[kPeers];
    SUCCEED(pcclInit());
    master_address = free_address();
    pcclMasterInstance_t *master = start_master(master_address);
    for (int i = 0; i < kPeers; ++i) {
        numbers[i] = i;
        EXPECT(pthread_create(&threads[i], NULL, run, &numbers[i]) == 0);
    }
    for (int i = 0; i < kPeers; ++i)
        EXPECT(pthread_join(threads[i], NULL) == 0);
    end_master(master);
    return 0;
}
