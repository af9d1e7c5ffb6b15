/* A peer receives an error at the launch of an asynchronous all-reduce if it is alone in its group, or if the tag is in
 * flight. Neither leaves an operation outstanding. A peer that is alone has no topology to optimize. */
#include "peers.h"

static ccoip_socket_address_t master_address;
static pthread_barrier_t launched; /* the first peer has launched its all-reduce */

static void *second_peer(void *unused) {
    float data[4] = {1, 2, 3, 4};
    const pcclReduceDescriptor_t descriptor = sum_of(4, 7);
    pcclComm_t *comm = join(master_address);
    gather(comm, 2, 1);
    pthread_barrier_wait(&launched);
    SUCCEED(pcclAllReduce(data, data, &descriptor, comm, NULL));
    EXPECT(data[3] == 8);
    SUCCEED(pcclDestroyCommunicator(comm));
    return unused;
}

int main(void) {
    float data[4] = {1, 2, 3, 4}, other[4] = {0};
    const pcclReduceDescriptor_t descriptor = sum_of(4, 7);
    pcclAsyncReduceOp_t handle, refused;
    pthread_t thread;
    SUCCEED(pcclInit());
    EXPECT(pthread_barrier_init(&launched, NULL, 2) == 0);
    master_address = free_address();
    pcclMasterInstance_t *master = start_master(master_address);
    pcclComm_t *comm = join(master_address);

    EXPECT(pcclAllReduceAsync(data, data, &descriptor, comm, &handle) == pcclTooFewPeers);
    EXPECT(data[3] == 4);
    EXPECT(pcclOptimizeTopology(comm) == pcclInvalidUsage);
    SUCCEED(pcclUpdateTopology(comm)); /* it fails while an operation is outstanding */

    EXPECT(pthread_create(&thread, NULL, second_peer, NULL) == 0);
    gather(comm, 2, 0);
    SUCCEED(pcclAllReduceAsync(data, data, &descriptor, comm, &handle));
    EXPECT(pcclAllReduceAsync(other, other, &descriptor, comm, &refused) == pcclInvalidUsage);
    EXPECT(pcclAllReduce(other, other, &descriptor, comm, NULL) == pcclInvalidUsage);
    pthread_barrier_wait(&launched);
    SUCCEED(pcclAwaitAsyncReduce(&handle, NULL));
    EXPECT(data[3] == 8 && other[3] == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    SUCCEED(pcclDestroyCommunicator(comm));
    end_master(master);
    return 0;
}
