/* Point-to-point exchange: messages from one peer of a group to another, and graphs that define which peers are neighbours. Both
 * work during all other calls and while the membership changes.
 *
 * A message is delivered exactly once or not at all, and its sender receives this outcome. The data of a message that was not
 * delivered still belongs to the sender. A receiver takes messages out of a bounded mailbox. While the mailbox is full, only the
 * messages to it wait.
 *
 *     pcclPost(comm, &neighbour, tag, half, bytes, PCCL_FOREVER, &post);
 *     pcclReceive(comm, tag, buffer, room, 100, &info);
 *     if (pcclAwaitPost(&post, PCCL_FOREVER) != pcclSuccess) take_back(half);
 *
 * Deadlock: two peers that both wait without a time limit for room in the other's mailbox, and receive nothing meanwhile, wait
 * forever. Give posts a time limit, or await them between receives.
 *
 * Threads: every function here may be called from any thread, at the same time as any other call. */
#ifndef PCCL_EXCHANGE_H
#define PCCL_EXCHANGE_H

#include <pccl/pccl.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A time limit in milliseconds that never ends. */
#define PCCL_FOREVER UINT32_MAX

/** A handle of a message that was posted. Plain data. Valid until pcclAwaitPost returns a final code. */
typedef struct pcclPostOp_t {
    pcclComm_t *comm; /**< the communicator that sends the message */
    uint64_t number;  /**< identifies the message on this communicator */
} pcclPostOp_t;

/** Everything about a received message except its bytes. */
typedef struct pcclMessageInfo_t {
    pcclPeerId_t from; /**< the sender */
    uint64_t tag;      /**< the tag that the sender passed to pcclPost */
    /** Increases with each message that `from` posts to this peer; a gap means that a message was not delivered. */
    uint64_t sequence;
    size_t bytes; /**< length of the message */
} pcclMessageInfo_t;

/** Returns the id of this peer in the run. Other peers pass it to pcclPost. A peer that leaves and joins again gets another id.
 * The last eight bytes, most significant first, are the number that logs and error texts show for this peer.
 * @param[out] peer_id_out  The id.
 * @retval pcclInvalidUsage  Not connected. Call pcclConnect first. */
PCCL_EXPORT pcclResult_t pcclGetPeerId(const pcclComm_t *communicator, pcclPeerId_t *peer_id_out);

/** Lists the members of this peer's group in the order of joining, including this peer. The list is the present one, which can be
 * newer than the last call on the communicator.
 * @param[out] peer_ids_out  The first `capacity` members. NULL if `capacity` is 0.
 * @param[out] count_out     The number of members. NULL if not wanted.
 * @param[out] epoch_out     A number that increases whenever the list changes. NULL if not wanted.
 * @retval pcclInvalidUsage  Not connected. Call pcclConnect first. */
PCCL_EXPORT pcclResult_t pcclGetMembers(const pcclComm_t *communicator, pcclPeerId_t *peer_ids_out, size_t capacity,
                                        size_t *count_out, uint64_t *epoch_out);

/** Starts to send a message to a member of this peer's group, and returns.
 *
 * Messages to one peer are sent one at a time and arrive in the order of their posts. Messages to different peers are sent at the
 * same time.
 *
 * @param[in]  data        `bytes` bytes. Must not change before pcclAwaitPost has returned a final code. NULL if `bytes` is 0.
 * @param[in]  timeout_ms  A message that is not delivered after this time is withdrawn. PCCL_FOREVER: never.
 * @param[out] post_out    Pass it to pcclAwaitPost until that returns a final code.
 * @retval pcclInvalidArgument  An argument is NULL, or `to` is this peer or not a member of its group. Nothing was posted. See
 *                              pcclGetMembers.
 * @retval pcclInvalidUsage     Not connected. Call pcclConnect first. */
PCCL_EXPORT pcclResult_t pcclPost(const pcclComm_t *communicator, const pcclPeerId_t *to, uint64_t tag, const void *data,
                                  size_t bytes, uint32_t timeout_ms, pcclPostOp_t *post_out);

/** Waits for the outcome of a message. Every code except pcclTimeout is final: the handle is no longer valid, and `data` belongs
 * to the caller again.
 *
 * If the connection breaks during a transfer, it is established again and the two peers compare what has arrived. Until then
 * the outcome is unknown, even after the message's own time limit. It is known at the latest when one of the two leaves the run
 * or is removed from it.
 *
 * @param[in] timeout_ms  How long this call waits. 0: returns at once. PCCL_FOREVER: no limit.
 * @retval pcclSuccess                 The whole message is in the receiver's mailbox. The receiver gets it unless it is lost
 * first. If the receiver was lost before it confirmed, the message may be in its mailbox.
 * @retval pcclRankConnectionLost      The receiver left the run or was lost, and has not received the message.
 * @retval pcclRankConnectionFailed    Not delivered within the message's time limit: the mailbox was full, or the receiver could
 * not be reached. The message will never be delivered. It may be posted again.
 * @retval pcclInvalidArgument         Not delivered: larger than the receiver's mailbox. See pcclSetMailbox.
 * @retval pcclMasterConnectionFailed  This peer's membership has ended (this code, or the code that ended it). Its messages that
 *                                     were not sent are discarded. Connect again.
 * @retval pcclTimeout                 Unknown after `timeout_ms`, or pcclAbort was called. Await the message again.
 * @retval pcclInvalidUsage            The handle is not valid: its message was never posted, or an earlier call returned a final
 * code. */
PCCL_EXPORT pcclResult_t pcclAwaitPost(const pcclPostOp_t *post, uint32_t timeout_ms);

/** Takes the oldest message with this tag out of the mailbox. It may come from any sender.
 *
 * @param[out] buffer      Room for `capacity` bytes. NULL if `capacity` is 0.
 * @param[in]  timeout_ms  How long to wait for a message. 0: returns at once. PCCL_FOREVER: no limit.
 * @param[out] info        NULL if not wanted.
 * @retval pcclTimeout                 No message with this tag has arrived. Call again.
 * @retval pcclInvalidArgument         The message is larger than `capacity`. It stays in the mailbox; `info` has its size. Call
 * again with a larger buffer.
 * @retval pcclInvalidUsage            Not connected. Call pcclConnect first.
 * @retval pcclRankConnectionLost      pcclAbort was called.
 * @retval pcclMasterConnectionFailed  This peer's membership has ended (this code, or the code that ended it). The mailbox was
 *                                     emptied. Connect again. */
PCCL_EXPORT pcclResult_t pcclReceive(const pcclComm_t *communicator, uint64_t tag, void *buffer, size_t capacity,
                                     uint32_t timeout_ms, pcclMessageInfo_t *info);

/** The rule that makes members of a group neighbours. */
typedef enum pcclGraphKind_t {
    pcclGraphNone = 0, /**< no graph */
    pcclGraphRing = 1, /**< each member and the next one in the order of joining are neighbours */
    /** Each member has `degree` neighbours; every pair of members is equally likely to be connected. */
    pcclGraphRandomRegular = 2,
    /** Directed: to the members 1, 2, 4, 8 ... places further in the order of joining. Neighbours are listed in that order, the
     * i-th for step i. Source: Assran et al. 2019, Stochastic Gradient Push. */
    pcclGraphExponential = 3,
    /** Each newcomer chooses `degree` members with a probability proportional to their number of neighbours. A few members
     * become hubs; most have `degree`. Source: Barabasi and Albert 1999. */
    pcclGraphBarabasiAlbert = 4
} pcclGraphKind_t;

/** A graph of neighbours. */
typedef struct pcclGraphOptions_t {
    pcclGraphKind_t kind; /**< zeroed: pcclGraphNone */
    uint32_t degree;      /**< pcclGraphRandomRegular: 2 to 64; pcclGraphBarabasiAlbert: 1 to 64; other kinds: 0 */
    uint64_t seed;        /**< the same seed gives the same graph if the same members join and leave in the same order */
} pcclGraphOptions_t;

/** Gives this peer's group a graph of neighbours.
 *
 * The graph is connected. Each member has at least `degree` neighbours if the group has that many other members. When members
 * join or leave, the master repairs the graph and changes few edges: about as many as the joining and leaving members have. The
 * master sends each member its own neighbours. Any member may call this, including newcomers. The first call defines the graph,
 * and later calls that ask for the same graph succeed. pcclGraphNone removes the graph; after that another can be set. This call
 * waits for the master and never for other members. A master that restarts from its journal keeps the graph.
 *
 * @retval pcclInvalidArgument     An argument is NULL, `kind` is unknown, or `degree` is out of range for it.
 * @retval pcclInvalidUsage        Not connected, or the group has another graph, which pcclGetLastError names. Remove that one
 * first.
 * @retval pcclRankConnectionLost  pcclAbort was called. */
PCCL_EXPORT pcclResult_t pcclSetNeighbourGraph(const pcclComm_t *communicator, const pcclGraphOptions_t *options);

/** Lists this peer's neighbours in the graph. The list is the present one. For a short time it can be older or newer than the
 * list of pcclGetMembers.
 * @param[out] peer_ids_out  The first `capacity` neighbours. NULL if `capacity` is 0.
 * @param[out] count_out     The number of neighbours: 0 without a graph, and if this peer is alone. NULL if not wanted.
 * @param[out] epoch_out     A number that increases whenever the group's graph changes; 0 before the first graph. NULL if not
 * wanted.
 * @retval pcclInvalidUsage  Not connected. Call pcclConnect first. */
PCCL_EXPORT pcclResult_t pcclGetNeighbours(const pcclComm_t *communicator, pcclPeerId_t *peer_ids_out, size_t capacity,
                                           size_t *count_out, uint64_t *epoch_out);

/** Limits the messages that this peer holds before they are received: those in its mailbox and those that are arriving. Applies
 * from the next message on; messages that are already held are kept. May be called before pcclConnect.
 * @param[in] max_bytes     Limit of their total size, and therefore of one message. Default 1 GiB.
 * @param[in] max_messages  Limit of their number. Default 4096.
 * @retval pcclInvalidArgument  `communicator` is NULL, or a limit is 0. */
PCCL_EXPORT pcclResult_t pcclSetMailbox(const pcclComm_t *communicator, uint64_t max_bytes, uint32_t max_messages);

#ifdef __cplusplus
}
#endif

#endif
