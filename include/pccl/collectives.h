/* Reduce-scatter and all-gather: each peer owns a part of a buffer, its *shard*, and works on that part alone.
 *
 * A sharded outer step, which is what they are for: reduce-scatter of pseudo-gradients, an optimizer step on the own shard, all-gather of
 * the parameters. Together they move what one all-reduce moves, and each peer keeps 1/N of the optimizer's state.
 *
 * Shards and losses. A shard belongs to a membership. Both calls take the shard they are meant for; if the members have changed since it was
 * asked for, the call fails at every member with pcclRankConnectionLost before anything is moved. So:
 *   - Ask with pcclGetShard, make both calls with the answer, and after any pcclRankConnectionLost ask again and *begin again at the
 *     reduce-scatter*: a lost peer took its shard of the result with it, also where the reduce-scatter itself had succeeded.
 *   - Keep what the step began with (the pseudo-gradients; the parameters, that is gather into another buffer) until the all-gather has
 *     succeeded. It succeeds at all survivors or at none: then the step was taken by all or by nobody.
 *   - Optimizer state of the shards that are gone is gone. What the survivors hold can be put together with one pcclAllReduce (pcclSum) of a
 *     buffer that is zero outside each one's old shard, and cut anew; the lost shard's begins at zero, or comes from a copy.
 * A shard moves only when the members change: not with pcclOptimizeTopology, a link made anew, pcclAbort, or a master that restarts. */
#ifndef PCCL_COLLECTIVES_H
#define PCCL_COLLECTIVES_H

#include <pccl/pccl.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A peer's part of a buffer. Plain data. */
typedef struct pcclShard_t {
    uint64_t first;      /**< its first element in the whole buffer: a multiple of 256 (or the end of the buffer) */
    uint64_t elements;   /**< how many; 0 where the buffer has fewer parts of 256 elements than the group has peers */
    uint64_t membership; /**< names the members among whom the buffer is divided: another value, other members */
    uint32_t world_size; /**< how many they are */
    uint32_t rank;       /**< this peer's number among them, from 0, in the order in which they came to the run. Shards lie in this order */
} pcclShard_t;

/** Says which part of a buffer of `count` elements is this peer's, as the members are now. Asks nobody. Thread-safe.
 *
 * @param[in] count  Elements of the whole buffer, at least 1. All element types are divided alike.
 * @retval pcclInvalidUsage     Not connected.
 * @retval pcclInvalidArgument  A NULL argument, or a count of 0. */
PCCL_EXPORT pcclResult_t pcclGetShard(const pcclComm_t *communicator, size_t count, pcclShard_t *shard_out);

/** Combines one buffer per peer of the group, element by element, and gives every peer its shard of the result.
 *
 * The rules are those of pcclAllReduce (threads, tags, losses, who must agree on what), whose bits this gives where both are not
 * quantized and the ring is in the order of ranks. Calls with one tag meet one another, whatever they are: different ones fail with words.
 *
 * @param[in]  sendbuff    `descriptor->count` elements. As it was after a failure.
 * @param[out] recvbuff    Room for `shard->elements`; may be NULL if these are 0. In place: `sendbuff` + `shard->first` elements; else must
 *                         not overlap it. Undefined after a failure unless in place.
 * @param[in]  descriptor  Of the whole buffer. Every type and operator; quantization as in pcclAllReduce.
 * @param[in]  shard       From pcclGetShard for that count.
 * @param[in]  options     NULL for the defaults. Error feedback as in pcclAllReduce; pcclLossPolicyRepair is not for this. pcclAlgorithmDirect
 *                         gives way to pcclAlgorithmOneHop: straight to the owners. The library takes that for small buffers.
 * @param[out] report      NULL if not wanted.
 * @retval pcclRankConnectionLost  A peer was lost, or `shard` is of other members: ask for it again and call again.
 * @retval pcclTooFewPeers         Alone in the group; nothing was touched. The whole buffer is this peer's.
 * @retval pcclInvalidArgument     Also: `shard` is not one of `descriptor->count` elements; repair.
 * Others as pcclAllReduce. Blocks. Where a member reads more slowly than its predecessor in the ring sends, partial results pile up in memory,
 * at most the buffer's size (pcclAlgorithmOneHop: 16 MiB). Source: Patarasuk and Yuan 2009, sec. 3. */
PCCL_EXPORT pcclResult_t pcclReduceScatter(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                           const pcclShard_t *shard, const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                           pcclReduceReport_t *report);

/** Starts pcclReduceScatter and returns. `shard` and `options` are copied; the buffers belong to the library until
 * pcclAwaitAsyncReduce or pcclAwaitAsyncReduceWithReport returns.
 * @param[out] reduce_handle_out  Plain data; await it exactly once, from any thread. */
PCCL_EXPORT pcclResult_t pcclReduceScatterAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                                const pcclShard_t *shard, const pcclReduceOptions_t *options,
                                                const pcclComm_t *communicator, pcclAsyncReduceOp_t *reduce_handle_out);

/** Gives every peer the shards of all: a buffer of `descriptor->count` elements, the same bits at every peer.
 *
 * @param[in]  sendbuff    `shard->elements`, this peer's part; may be NULL if these are 0. As it was after a failure.
 * @param[out] recvbuff    Room for `descriptor->count` elements. In place: `sendbuff` is `recvbuff` + `shard->first` elements; else must not
 *                         overlap it. Undefined after a failure, but for that part.
 * @param[in]  descriptor  Of the whole buffer; `op` is of no meaning. Quantized, each part is rounded once, and the owner, too, gets in
 *                         `recvbuff` what the others unpack (in place: instead of what it gave).
 * @param[in]  shard       From pcclGetShard for that count.
 * @param[in]  options     NULL for the defaults. Error feedback and repair are not available.
 * @param[out] report      NULL if not wanted.
 * Errors as pcclReduceScatter. Blocks. */
PCCL_EXPORT pcclResult_t pcclAllGather(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                       const pcclShard_t *shard, const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                       pcclReduceReport_t *report);

/** Starts pcclAllGather and returns, as pcclReduceScatterAsync. */
PCCL_EXPORT pcclResult_t pcclAllGatherAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                            const pcclShard_t *shard, const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                            pcclAsyncReduceOp_t *reduce_handle_out);

#ifdef __cplusplus
}
#endif

#endif
