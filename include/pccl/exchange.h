/* Point-to-point exchange: messages from one peer of a group to another, beside all other calls and across changes of the membership; and
 * graphs that say who is whose neighbour.
 *
 * A message is delivered exactly once or not at all, and its sender comes to know which: what a failed post did not deliver is still the
 * sender's. A receiver takes messages out of a bounded mailbox; while that is full, senders wait, and nothing else does.
 *
 *     pcclPost(comm, &neighbour, tag, half, bytes, PCCL_FOREVER, &post);        pcclReceive(comm, tag, buffer, room, 100, &info);
 *     if (pcclAwaitPost(&post, PCCL_FOREVER) != pcclSuccess) take_back(half);
 *
 * Two peers that both wait for ever for the other's mailbox, and receive nothing meanwhile, wait for ever: give posts a time limit, or await
 * them between receives.
 *
 * Threads: all of these may be called from any thread, at the same time, also while other calls run. */
#ifndef PCCL_EXCHANGE_H
#define PCCL_EXCHANGE_H

#include <pccl/pccl.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A time limit in milliseconds that never passes. */
#define PCCL_FOREVER UINT32_MAX

/** A handle of a message on its way: plain data. */
typedef struct pcclPostOp_t {
    pcclComm_t *comm;
    uint64_t number;
} pcclPostOp_t;

/** What a message is, beside its bytes. */
typedef struct pcclMessageInfo_t {
    pcclPeerId_t from;
    uint64_t tag;
    uint64_t sequence; /**< grows with each message that `from` posts to this peer; a gap is a message that was not delivered */
    size_t bytes;
} pcclMessageInfo_t;

/** Gives this peer's name in the run: what others post to. A peer that leaves and joins again has another. The last eight bytes are, most
 * significant first, the number by which logs and error texts name the peer.
 * @retval pcclInvalidUsage  Not connected. */
PCCL_EXPORT pcclResult_t pcclGetPeerId(const pcclComm_t *communicator, pcclPeerId_t *rank_out);

/** Lists the members of this peer's group, itself among them, in the order in which they joined: as of now, not as of the last call.
 * @param[out] ranks_out  The first `capacity` of them. NULL if `capacity` is 0.
 * @param[out] count_out  How many there are. NULL if not wanted.
 * @param[out] epoch_out  Grows whenever the list changes. NULL if not wanted.
 * @retval pcclInvalidUsage  Not connected. */
PCCL_EXPORT pcclResult_t pcclGetMembers(const pcclComm_t *communicator, pcclPeerId_t *ranks_out, size_t capacity, size_t *count_out,
                                        uint64_t *epoch_out);

/** Starts sending a message to a member of this peer's group, and returns.
 *
 * Messages to one peer arrive in the order in which they were posted, one at a time; those to different peers side by side.
 *
 * @param[in]  data        `bytes` bytes, not to be changed before pcclAwaitPost tells the outcome. NULL if `bytes` is 0.
 * @param[in]  timeout_ms  After this the message is withdrawn if it is not delivered yet. PCCL_FOREVER: never.
 * @param[out] post_out    To be awaited until the outcome is known.
 * @retval pcclInvalidArgument  NULL; `to` is this peer itself, or no member of its group (any more). Nothing was posted. */
PCCL_EXPORT pcclResult_t pcclPost(const pcclComm_t *communicator, const pcclPeerId_t *to, uint64_t tag, const void *data, size_t bytes,
                                  uint32_t timeout_ms, pcclPostOp_t *post_out);

/** Tells what became of a message. Any code but pcclTimeout is final: the handle is of no more use, and `data` is the caller's again.
 *
 * A connection that breaks while a message is on its way is made anew, and the two peers find out what has arrived; until then the
 * outcome is open, also past the message's own time limit. That ends at the latest when either leaves the run, or is removed from it.
 *
 * @retval pcclSuccess              The whole message is in the receiver's mailbox; or may be, in that of one that was lost before it could say
 *                                  so. It is received unless the receiver is lost first.
 * @retval pcclRankConnectionLost   The receiver left the run, or was lost, and has not received it.
 * @retval pcclRankConnectionFailed Not delivered in time: its mailbox was full, or it could not be reached. It never will be.
 * @retval pcclInvalidArgument      Not delivered: larger than the receiver's mailbox (pcclSetMailbox).
 * @retval pcclMasterConnectionFailed  And what else ends this peer's own membership: what it posted is then nobody's.
 * @retval pcclTimeout              Not known after `timeout_ms`, or pcclAbort was called: await it again.
 * @retval pcclInvalidUsage         No such message is on its way: awaited before, or never posted. */
PCCL_EXPORT pcclResult_t pcclAwaitPost(const pcclPostOp_t *post, uint32_t timeout_ms);

/** Takes the oldest message with that tag out of the mailbox, whoever sent it.
 *
 * @param[out] buffer      Room for `capacity` bytes. NULL if that is 0.
 * @param[in]  timeout_ms  How long to wait for one. 0: not at all.
 * @param[out] info        NULL if not wanted.
 * @retval pcclTimeout             There is none yet.
 * @retval pcclInvalidArgument     It does not fit `buffer`: it stays, and `info` says how large it is.
 * @retval pcclRankConnectionLost  pcclAbort was called.
 * @retval pcclMasterConnectionFailed  And what else ends this peer's membership: the mailbox was emptied with it. */
PCCL_EXPORT pcclResult_t pcclReceive(const pcclComm_t *communicator, uint64_t tag, void *buffer, size_t capacity, uint32_t timeout_ms,
                                     pcclMessageInfo_t *info);

/** Who is whose neighbour. */
typedef enum pcclGraphKind_t {
    pcclGraphNone = 0,
    pcclGraphRing = 1,          /**< in the order of joining */
    pcclGraphRandomRegular = 2, /**< everyone has `degree` neighbours, any two members being as likely as any other two */
    pcclGraphExponential = 3,   /**< directed: to the members 1, 2, 4, 8 ... places further on in the order of joining, which are listed in that
                                     order, the i-th for step i. Source: Assran et al. 2019, Stochastic Gradient Push */
    pcclGraphBarabasiAlbert = 4 /**< each who joins chooses `degree` members, the more likely the more neighbours they have: a few hubs, and
                                     many with `degree`. Source: Barabasi and Albert 1999 */
} pcclGraphKind_t;

typedef struct pcclGraphOptions_t {
    pcclGraphKind_t kind;
    uint32_t degree; /**< of pcclGraphRandomRegular 2 to 64, of pcclGraphBarabasiAlbert 1 to 64, else 0 */
    uint64_t seed;   /**< the same seed, and members that come and go in the same order, give the same graph */
} pcclGraphOptions_t;

/** Gives this peer's group a graph of neighbours.
 *
 * It is connected, and each member has `degree` neighbours or more, as long as there are so many others. When members come and go, the
 * master mends it and changes few edges: about as many as those who came and went have. Each member hears of its own neighbours.
 * Every member may make this call, newcomers too; the first decides, and others that ask for the same are content. pcclGraphNone takes
 * the graph away, so that another can be set. Waits for the master, never for other members; a master that restarts knows the graph.
 *
 * @retval pcclInvalidArgument     No graph is so.
 * @retval pcclInvalidUsage        Not connected; or the group has another graph, which pcclGetLastError names.
 * @retval pcclRankConnectionLost  pcclAbort was called. */
PCCL_EXPORT pcclResult_t pcclSetNeighbourGraph(const pcclComm_t *communicator, const pcclGraphOptions_t *options);

/** Lists this peer's neighbours in the graph, as of now: to a moment before or after a change of pcclGetMembers.
 * @param[out] ranks_out  The first `capacity` of them. NULL if `capacity` is 0.
 * @param[out] count_out  How many there are; 0 without a graph, and alone. NULL if not wanted.
 * @param[out] epoch_out  Grows whenever the group's graph changes; 0 before it has had one. NULL if not wanted.
 * @retval pcclInvalidUsage  Not connected. */
PCCL_EXPORT pcclResult_t pcclGetNeighbours(const pcclComm_t *communicator, pcclPeerId_t *ranks_out, size_t capacity, size_t *count_out,
                                           uint64_t *epoch_out);

/** Bounds what this peer holds of messages that it has not received: those in the mailbox and those on their way into it. From the next
 * message on; what is held stays. Also before pcclConnect.
 * @param[in] max_bytes     And so of one message. 1 GiB until it is set.
 * @param[in] max_messages  4096 until it is set.
 * @retval pcclInvalidArgument  One of them is 0. */
PCCL_EXPORT pcclResult_t pcclSetMailbox(const pcclComm_t *communicator, uint64_t max_bytes, uint32_t max_messages);

#ifdef __cplusplus
}
#endif

#endif
