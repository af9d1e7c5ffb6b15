/* The status codes. The C enum, the error strings and every language binding are generated from this table. */
#ifndef PCCL_STATUS_H
#define PCCL_STATUS_H

/* X(name, value, phrase) */
#define PCCL_STATUS_TABLE(X)                                                                                                     \
    X(pcclSuccess, 0, "success")                                                                                                 \
    X(pcclNotInitialized, 1, "the library is not initialized: call pcclInit first")                                              \
    X(pcclInternalError, 2, "internal error: out of memory, or a bug in the library")                                            \
    X(pcclInvalidArgument, 3, "invalid argument")                                                                                \
    X(pcclInvalidUsage, 4, "invalid usage: the call does not fit the state of the run")                                          \
    X(pcclTooFewPeers, 5, "too few peers: this peer is alone in its peer group")                                                 \
    X(pcclMasterConnectionFailed, 6, "no connection to the master")                                                              \
    X(pcclRankConnectionFailed, 7, "the connection to another peer failed")                                                      \
    X(pcclRankConnectionLost, 8, "a peer was lost during the operation: call again")                                             \
    X(pcclNoSharedStateAvailable, 9, "no peer offers the shared state")                                                          \
    X(pcclPendingAsyncOps, 10, "asynchronous operations are outstanding: await them first")                                      \
    X(pcclUpdateTopologyFailed, 11, "the topology update failed")                                                                \
    X(pcclTopologyOptimizationFailed, 12, "the topology optimization failed")                                                    \
    X(pcclTimeout, 13, "timed out: call again")

#define PCCL_STATUS_ENUMERATOR(name, value, phrase) name = value,
/** The result of every function. `pcclStatusEnd_` is one past the last code and is never returned. */
typedef enum pcclResult_t { PCCL_STATUS_TABLE(PCCL_STATUS_ENUMERATOR) pcclStatusEnd_ } pcclResult_t;
#undef PCCL_STATUS_ENUMERATOR

#endif
