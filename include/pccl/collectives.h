/* Reduce-scatter and all-gather. Each peer owns one part of a buffer, its *shard*, and works on that part only.
 *
 * The main use is a sharded outer step: reduce-scatter the pseudo-gradients, make an optimizer step on the own shard, all-gather
 * the parameters. The two calls together move as many bytes as one all-reduce, and each peer keeps 1/N of the optimizer's state.
 *
 * Shards and lost peers. A shard belongs to a membership. Both calls take the shard that the caller works on. If the members have
 * changed since pcclGetShard returned it, the call fails at every member with pcclRankConnectionLost before it moves any data. A
 * program must therefore follow these rules:
 *   - Call pcclGetShard and pass its answer to both calls. After any pcclRankConnectionLost, call pcclGetShard again and
 *     *restart from the reduce-scatter*. A lost peer took its shard of the result with it, even if the reduce-scatter itself had
 *     succeeded.
 *   - Keep the input of the step until the all-gather has succeeded: the pseudo-gradients, and the parameters (gather into
 *     another buffer). The all-gather succeeds at all survivors or at none, so either all of them have made the step or none has.
 *   - Optimizer state for the shards of lost peers is lost. To rebuild the rest, each survivor places its old shard in a buffer
 *     of zeros, and one pcclAllReduce with pcclSum combines these buffers. Cut the result into the new shards. The elements of
 *     lost shards are zero unless the program has a copy of them.
 *
 * A shard changes only when the members change. It does not change with pcclOptimizeTopology, with a connection that is
 * reestablished, with pcclAbort, or when the master restarts. */
#ifndef PCCL_COLLECTIVES_H
#define PCCL_COLLECTIVES_H

#include <pccl/pccl.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One peer's part of a buffer. Plain data. */
typedef struct pcclShard_t {
    uint64_t first; /**< index of its first element in the whole buffer: a multiple of 256, or the end of the buffer */
    /** Its size in elements; 0 if the buffer has fewer parts of 256 elements than the group has peers. */
    uint64_t elements;
    uint64_t membership; /**< identifies the members that share the buffer; differs for different members */
    uint32_t world_size; /**< number of these members */
    uint32_t rank;       /**< this peer's position among them, from 0, in the order of joining. Shards are in rank order */
} pcclShard_t;

/** Returns this peer's shard of a buffer of `count` elements for the present members. Does not communicate. Thread-safe.
 *
 * @param[in]  count      Elements of the whole buffer, at least 1. The element type does not matter.
 * @param[out] shard_out  The shard. Valid until the members change.
 * @retval pcclInvalidUsage     Not connected. Call pcclConnect first.
 * @retval pcclInvalidArgument  An argument is NULL or `count` is 0. */
PCCL_EXPORT pcclResult_t pcclGetShard(const pcclComm_t *communicator, size_t count, pcclShard_t *shard_out);

/** Combines one buffer per peer of the group, element by element, and gives each peer its shard of the result.
 *
 * The rules of pcclAllReduce apply: threads, tags, lost peers, and what all members must pass identically. The result has the
 * same bits as that of pcclAllReduce if neither is quantized and the ring is in rank order. All collectives share one set of
 * tags. If members make different calls with one tag, the calls fail with pcclInvalidUsage and pcclGetLastError names the
 * difference.
 *
 * @param[in]  sendbuff    `descriptor->count` elements. Unchanged after a failure.
 * @param[out] recvbuff    Room for `shard->elements` elements; may be NULL if that is 0. In place, it is `sendbuff` +
 * `shard->first` elements; otherwise it must not overlap `sendbuff`. After a failure it is undefined unless in place.
 * @param[in]  descriptor  Describes the whole buffer. All types and operators; quantization as in pcclAllReduce.
 * @param[in]  shard       From pcclGetShard with the same count.
 * @param[in]  options     NULL for the defaults. Error feedback works as in pcclAllReduce. pcclLossPolicyRepair is not supported.
 *                         pcclAlgorithmDirect is replaced by pcclAlgorithmOneHop, which sends each part straight to its owner.
 * The library chooses pcclAlgorithmOneHop for small buffers.
 * @param[out] report      NULL if not wanted.
 * @retval pcclRankConnectionLost  A peer was lost, or `shard` belongs to an earlier membership. Call pcclGetShard, then call
 * again.
 * @retval pcclTooFewPeers         This peer is alone in its group; nothing was changed. The whole buffer is its shard.
 * @retval pcclInvalidArgument     As in pcclAllReduce; or `shard` does not belong to a buffer of `descriptor->count` elements; or
 * `options` asks for pcclLossPolicyRepair. Other codes are those of pcclAllReduce. Blocks. If a member reads more slowly than its
 * predecessor in the ring sends, partial results are held in memory, at most as many bytes as the buffer has
 * (pcclAlgorithmOneHop: 16 MiB). Source: Patarasuk and Yuan 2009, sec. 3. */
PCCL_EXPORT pcclResult_t pcclReduceScatter(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                           const pcclShard_t *shard, const pcclReduceOptions_t *options,
                                           const pcclComm_t *communicator, pcclReduceReport_t *report);

/** Starts pcclReduceScatter and returns. `shard` and `options` are copied. The library owns the buffers until
 * pcclAwaitAsyncReduce or pcclAwaitAsyncReduceWithReport returns.
 * @param[out] reduce_handle_out  Plain data. Await it exactly once, from any thread. Set only if the launch succeeds. */
PCCL_EXPORT pcclResult_t pcclReduceScatterAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                                const pcclShard_t *shard, const pcclReduceOptions_t *options,
                                                const pcclComm_t *communicator, pcclAsyncReduceOp_t *reduce_handle_out);

/** Gives every peer the shards of all peers: a buffer of `descriptor->count` elements with the same bits at every peer.
 *
 * @param[in]  sendbuff    `shard->elements` elements, this peer's shard; may be NULL if that is 0. Unchanged after a failure.
 * @param[out] recvbuff    Room for `descriptor->count` elements. In place, `sendbuff` is `recvbuff` + `shard->first` elements;
 * otherwise the two must not overlap. After a failure everything outside this peer's shard is undefined.
 * @param[in]  descriptor  Describes the whole buffer; `op` is ignored. If quantized, each shard is rounded once, and its owner
 * receives in `recvbuff` the same rounded values as the others. In place, they replace the values that it passed.
 * @param[in]  shard       From pcclGetShard with the same count.
 * @param[in]  options     NULL for the defaults. Error feedback and pcclLossPolicyRepair are not supported.
 * @param[out] report      NULL if not wanted.
 * The codes are those of pcclReduceScatter. Blocks. */
PCCL_EXPORT pcclResult_t pcclAllGather(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                       const pcclShard_t *shard, const pcclReduceOptions_t *options,
                                       const pcclComm_t *communicator, pcclReduceReport_t *report);

/** Starts pcclAllGather and returns. `shard` and `options` are copied. The library owns the buffers until pcclAwaitAsyncReduce or
 * pcclAwaitAsyncReduceWithReport returns.
 * @param[out] reduce_handle_out  Plain data. Await it exactly once, from any thread. Set only if the launch succeeds. */
PCCL_EXPORT pcclResult_t pcclAllGatherAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                            const pcclShard_t *shard, const pcclReduceOptions_t *options,
                                            const pcclComm_t *communicator, pcclAsyncReduceOp_t *reduce_handle_out);

#ifdef __cplusplus
}
#endif

#endif
