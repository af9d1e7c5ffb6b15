/* PCCL: a fault-tolerant collective communication library.
 *
 * A *master* keeps the membership of a *run*. *Peers* join and leave the run at any time. They send their data directly to one
 * another; the master never sees it. After a failed call the buffers that it read are unchanged. The comment of each function
 * lists its status codes, what to do next, and the state of the buffers that it writes.
 *
 * Threads: several threads may use one communicator. Reduces with distinct tags may be launched and awaited on any thread. Only
 * one call at a time per communicator may be one of those that every peer of the run or group makes (connect, update, optimize,
 * synchronize).
 *
 * Errors: every function returns a pcclResult_t. pcclGetLastError() returns the text of the calling thread's last failure.
 *
 * Structures that begin with `struct_size` get more fields in later releases, always at their end. A program that was compiled
 * with another release's header works. Fields that the program does not have keep their defaults. Fields that the library does
 * not have must be as the Init function left them, otherwise the call returns pcclInvalidArgument. The Init names are macros that
 * pass the program's own structure size to the function whose name ends in "Sized". The functions with the plain names use the
 * size of version 2.0.0. `struct_size` of pcclReduceReport_t is the number of bytes that the library may write.
 *
 * Environment: PCCL_LOG_LEVEL is DEBUG, INFO, WARN (default), ERROR, FATAL or OFF. The log is written to standard error. */
#ifndef PCCL_H
#define PCCL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pccl/address.h>
#include <pccl/status.h>

#if defined(_WIN32)
#define PCCL_EXPORT
#else
#define PCCL_EXPORT __attribute__((visibility("default")))
#endif

/** Marks a parameter that may be NULL. Expands to nothing: programs written for version 1 may use it. */
#define PCCL_NULLABLE

#define PCCL_VERSION_MAJOR 2
#define PCCL_VERSION_MINOR 0
#define PCCL_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------------------------- types -- */

/** Element types. 16-bit floats are IEEE binary16 and bfloat16, stored in two bytes in native byte order. */
typedef enum pcclDataType_t {
    pcclUint8 = 0,
    pcclInt8 = 1,
    pcclInt16 = 2,
    pcclUint16 = 3,
    pcclUint32 = 4,
    pcclInt32 = 5,
    pcclUint64 = 6,
    pcclInt64 = 7,
    pcclFloat16 = 8,
    pcclBFloat16 = 9,
    pcclFloat = 10,
    pcclDouble = 11,
    pcclInt4 = 12,  /**< signed, two per byte; only as `quantized_datatype` */
    pcclUint4 = 13, /**< two per byte; only as `quantized_datatype` */
    pcclUint2 = 14  /**< four per byte; only as `quantized_datatype` */
} pcclDataType_t;

/** The device that holds a tensor. pcclDeviceCuda needs a build with CUDA; see pcclGetBuildInfo. */
typedef enum pcclDeviceType_t { pcclDeviceCpu = 0, pcclDeviceCuda = 1 } pcclDeviceType_t;

/** Reduction operators. Integers wrap modulo 2^bits. pcclAvg is the sum divided by the number of peers that took part. The
 * average of integers divides the wrapped sum and truncates toward zero. 16-bit floats accumulate in float32. */
typedef enum pcclRedOp_t { pcclSum = 0, pcclAvg = 1, pcclProd = 2, pcclMax = 3, pcclMin = 4 } pcclRedOp_t;

/** The sizes that pcclGetAttribute returns. They are those of the membership that the last completed call used. */
typedef enum pcclAttribute_t {
    PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE = 1,            /**< peers in the run, over all peer groups */
    PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE = 2,        /**< peers in the caller's group */
    PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS = 3,     /**< groups with at least one peer */
    PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE = 4 /**< peers in the largest group */
} pcclAttribute_t;

/** The role of a peer in one shared-state synchronization. */
typedef enum pcclSharedStateSyncStrategy_t {
    PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR = 0, /**< the most common content at the expected revision wins */
    PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY = 1,    /**< this peer's content never wins; it sends nothing */
    PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY = 2        /**< this peer's content must win and is never overwritten */
} pcclSharedStateSyncStrategy_t;

/** A hint about the distribution of the data. Accepted for compatibility with version 1 and ignored: the quantizers measure each
 * block. */
typedef enum pcclDistributionHint_t {
    pcclDistributionNone = 0,
    pcclDistributionNormal = 1,
    pcclDistributionUniform = 2
} pcclDistributionHint_t;

/** How values are packed for the wire. Values are quantized in blocks, and each block carries its range or scale. A block has 256
 * elements, or with pcclQuantBlockScale the number that pcclReduceOptions_t sets. */
typedef enum pcclQuantizationAlgorithm_t {
    pcclQuantNone = 0,   /**< elements are sent unchanged */
    pcclQuantMinMax = 1, /**< affine between each block's minimum and maximum */
    /** Scale and integer zero point; zero stays exactly zero if the block's range contains it. */
    pcclQuantZeroPointScale = 2,
    /** Integers times the scale of a small block, whose element of largest magnitude gets the largest code. Zero stays exactly
     * zero. To pcclInt8, pcclInt4, pcclUint4 or pcclUint2. */
    pcclQuantBlockScale = 3
} pcclQuantizationAlgorithm_t;

/** The kind of scale by which pcclQuantBlockScale multiplies a block's integers. */
typedef enum pcclQuantizationScale_t {
    pcclScaleFloat = 0, /**< a float (double for double operands); the smallest error */
    /** A power of two in one byte (two bytes for double operands, pcclUint4 and pcclUint2). The error is up to 1.5 times as
     * large; unpacking does not round. */
    pcclScalePowerOfTwo = 1
} pcclQuantizationScale_t;

/** The communication pattern of an all-reduce. An algorithm that cannot be used is replaced by the next one that can, identically
 * at every member: pcclAlgorithmDirect by pcclAlgorithmOneHop, that by pcclAlgorithmRing. pcclReduceReport_t reports the one that
 * was used. */
typedef enum pcclReduceAlgorithm_t {
    pcclAlgorithmAuto = 0, /**< the library chooses, from facts that all members share */
    pcclAlgorithmRing = 1, /**< twice around the ring, 2(N-1) hops; needs only the connections of a ring */
    /** Sends every contribution to every peer, in one hop. Up to 1 MiB and 64 peers, all connected; not quantized. */
    pcclAlgorithmDirect = 2,
    /** Sends each block to its owner, which sends the combined block to every peer: two hops. All peers are connected. */
    pcclAlgorithmOneHop = 3
} pcclReduceAlgorithm_t;

/** The action of an all-reduce if a member is lost before the operation has ended. */
typedef enum pcclLossPolicy_t {
    pcclLossPolicyRetry = 0, /**< the operation fails at every survivor; the program calls again */
    /** For averages: the operation continues among the survivors. Elements that are final at any survivor are kept and sent to
     * all; the others are averaged again over the survivors. Each element is therefore a true average of the peers that took
     * part in it, and a late loss repeats only the elements that were not final. */
    pcclLossPolicyRepair = 1
} pcclLossPolicy_t;

/** The condition under which this peer compresses the data that it sends (zstd, lossless). Every peer can decompress, with any
 * setting. Results do not depend on this setting. */
typedef enum pcclCompression_t {
    pcclCompressionAuto = 0, /**< if the measured path to a peer is slower than the codec and the data becomes smaller */
    pcclCompressionOff = 1,  /**< never */
    pcclCompressionOn = 2    /**< always, at any cost in CPU time; data that does not become smaller is sent unchanged */
} pcclCompression_t;

/** An opaque handle of one peer's membership. Owned by the caller from pcclCreateCommunicator to pcclDestroyCommunicator. */
typedef struct pcclComm_t pcclComm_t;
/** Declared by version 1 and kept for its programs. No function uses it. */
typedef struct pcclRankInfo_t pcclRankInfo_t;
/** An opaque handle of a master that runs in this process. Owned by the caller from pcclCreateMaster to pcclDestroyMaster. */
typedef struct pcclMasterInstanceState_t pcclMasterInstance_t;

/** Parameters of pcclCreateCommunicator. pcclCommConfig_t has more. Zeroed fields have their defaults, except the master's
 * address. */
typedef struct pcclCommCreateParams_t {
    ccoip_socket_address_t master_address; /**< address and port of the master */
    uint32_t peer_group;                   /**< the peer's group; reduces and shared state stay inside a group */
    uint32_t p2p_connection_pool_size;     /**< lanes: TCP connections per link, at most 64; 0: the library chooses */
} pcclCommCreateParams_t;

/** The result of one all-reduce. pcclReduceReport_t has more. */
typedef struct pcclReduceInfo_t {
    uint32_t local_world_size; /**< peers that took part until the end */
    uint64_t tx_bytes;         /**< bytes that this peer sent for the operation, headers included */
    uint64_t rx_bytes;         /**< bytes that this peer received for the operation, headers included */
} pcclReduceInfo_t;

/** The elements of a reduce's buffers. */
typedef struct pcclReduceOperandDescriptor_t {
    pcclDataType_t datatype;                  /**< element type of both buffers, pcclUint8 to pcclDouble */
    pcclDistributionHint_t distribution_hint; /**< ignored */
} pcclReduceOperandDescriptor_t;

/** Quantization on the wire. Zeroed: none. The operand must be a floating-point type. docs/training/quantization.md lists the
 * errors. */
typedef struct pcclQuantizationOptions_t {
    /** pcclUint8, pcclInt8, pcclUint16, pcclInt16, pcclUint4 or pcclUint2; with pcclQuantBlockScale pcclInt8, pcclInt4,
     * pcclUint4 or pcclUint2. Ignored with pcclQuantNone. */
    pcclDataType_t quantized_datatype;
    pcclQuantizationAlgorithm_t algorithm; /**< pcclQuantNone: no quantization */
} pcclQuantizationOptions_t;

/** One all-reduce, reduce-scatter or all-gather. Every member of the group passes the same values. */
typedef struct pcclReduceDescriptor_t {
    size_t count;                                   /**< elements, at least 1 */
    pcclRedOp_t op;                                 /**< the reduction operator */
    uint64_t tag;                                   /**< identifies the operation among those in flight at the same time */
    pcclReduceOperandDescriptor_t src_descriptor;   /**< the elements */
    pcclQuantizationOptions_t quantization_options; /**< the format on the wire */
} pcclReduceDescriptor_t;

/** Further settings of one operation. Set the defaults with pcclReduceOptionsInit, then change fields. Every member of the group
 * passes the same values, except for `check_finite`. */
typedef struct pcclReduceOptions_t {
    size_t struct_size;              /**< sizeof(pcclReduceOptions_t), set by pcclReduceOptionsInit */
    pcclReduceAlgorithm_t algorithm; /**< default pcclAlgorithmAuto */
    /** pcclQuantBlockScale: elements that share a scale: 32, 64, 128, 256 or 512; 0: 32. Otherwise 0. */
    uint32_t quantization_block;
    pcclQuantizationScale_t quantization_scale; /**< pcclQuantBlockScale: the kind of scale */
    /** Quantized sums and averages: the rounding error of an operation is added to the next operation with the same tag, so
     * that errors do not accumulate. See pcclDropErrorFeedback. */
    bool error_feedback;
    /** pcclLossPolicyRepair needs pcclAvg. In place, a repair keeps no copy of overwritten elements: if the call fails after
     * all (pcclAbort, or this peer loses the master), each element of the buffer is either its old value or the average.
     * pcclAlgorithmDirect and pcclAlgorithmOneHop restart the operation after a loss. */
    pcclLossPolicy_t on_peer_loss;
    /** Checks this peer's input before anything is sent. If an element is infinite or NaN, the call fails at every member with
     * pcclInvalidArgument, and pcclGetLastError names the peer and the first such element. `sendbuff` is unchanged. Each peer
     * checks its own buffer, in the calling thread, at memory speed. An overflow of the sum is not detected. Members may differ
     * in this option. */
    bool check_finite;
} pcclReduceOptions_t;

/** A report on the execution of one operation. */
typedef struct pcclReduceReport_t {
    size_t struct_size;              /**< sizeof(pcclReduceReport_t), set by pcclReduceReportInit */
    uint32_t world_size;             /**< peers that took part until the end */
    uint32_t lanes;                  /**< lanes to the next peer of the ring when the operation began */
    uint64_t tx_bytes;               /**< bytes that this peer sent for the operation, headers included */
    uint64_t rx_bytes;               /**< bytes that this peer received for the operation, headers included */
    uint64_t chunk_bytes;            /**< size of the largest chunk, in bytes of `sendbuff` */
    pcclReduceAlgorithm_t algorithm; /**< the algorithm used; pcclAlgorithmAuto if the operation never began */
    uint32_t repairs;                /**< membership changes after which the operation was repaired */
    /** The smallest number of peers that took part in any element; 1 if all other peers were lost. */
    uint32_t fewest_took_part;
    uint64_t fewest_elements; /**< number of elements with this smallest number of peers; `count` if no peer was lost */
    uint64_t repair_tx_bytes; /**< the part of `tx_bytes` that was sent after the first loss */
    uint64_t saved_tx_bytes;  /**< bytes that compression saved; 0 if nothing was compressed */
} pcclReduceReport_t;

/** One operation of pcclAllReduceMultipleWithRetry. */
typedef struct pcclReduceSingleDescriptor_t {
    void *sendbuf;                     /**< as `sendbuff` of pcclAllReduce */
    void *recvbuf;                     /**< as `recvbuff` of pcclAllReduce */
    pcclReduceDescriptor_t descriptor; /**< with a tag that no other operation of the call has */
} pcclReduceOpDescriptor_t;

/** A handle of an operation in flight. Plain data. Await it exactly once. */
typedef struct pcclAsyncReduceOp_t {
    pcclComm_t *comm; /**< the communicator of the operation */
    uint64_t tag;     /**< the tag of the operation */
} pcclAsyncReduceOp_t;

/** Version 1's name of pcclPeerId_t. */
typedef struct pcclRankUuid_t {
    uint8_t data[16]; /**< the id; equal bytes mean the same peer */
} pcclRankUuid_t;

/** Identifies a peer of a run: 16 bytes that the master chose when the peer joined. */
typedef pcclRankUuid_t pcclPeerId_t;

/** One tensor of the shared state or of a model. */
typedef struct pcclTensorInfo_t {
    const char *name;             /**< unique in the shared state; at most 1024 bytes */
    void *data;                   /**< `count` elements; may be NULL if `count` is 0 */
    size_t count;                 /**< elements */
    pcclDataType_t datatype;      /**< pcclUint8 to pcclDouble */
    pcclDeviceType_t device_type; /**< pcclDeviceCpu */
    /** Only name and shape are compared; the content is sent only to peers with an older revision. */
    bool allow_content_inequality;
} pcclTensorInfo_t;

/** Named tensors that all members of a group hold in common. */
typedef struct pcclSharedState_t {
    uint64_t revision;       /**< in: the revision that this peer offers. out: the revision that it holds */
    size_t count;            /**< number of tensors, at least 1 */
    pcclTensorInfo_t *infos; /**< the tensors, in any order; owned by the caller */
} pcclSharedState_t;

/** The result of one shared-state synchronization. */
typedef struct pcclSharedStateSyncInfo_t {
    uint64_t tx_bytes; /**< tensor bytes that this peer sent */
    uint64_t rx_bytes; /**< tensor bytes that this peer received; 0 if it already held the agreed content */
} pcclSharedStateSyncInfo_t;

/** Properties of this build of the library. */
typedef struct pcclBuildInfo_t {
    bool has_cuda_support; /**< whether pcclDeviceCuda can be used */
} pcclBuildInfo_t;

/* -------------------------------------------------------------------------------------------------------------- library -- */

/** Initializes the library. Every call on a communicator needs it, once per process; calling it again does nothing. These calls
 * work without it: pcclGetBuildInfo, pcclGetVersion, pcclGetErrorString, pcclGetLastError, the Init functions of structures, and
 * all calls on a master. Thread-safe. Opens /dev/null on each of the descriptors 0, 1 and 2 that is closed, so that no socket
 * gets the number of a standard stream. */
PCCL_EXPORT pcclResult_t pcclInit(void);

/** Describes this build. Works before pcclInit.
 * @param[out] info  Owned by the caller.
 * @retval pcclInvalidArgument  `info` is NULL. */
PCCL_EXPORT pcclResult_t pcclGetBuildInfo(pcclBuildInfo_t *info);

/** Returns the version of the library. Works before pcclInit.
 * @param[out] version_out  10000*major + 100*minor + patch.
 * @retval pcclInvalidArgument  `version_out` is NULL. */
PCCL_EXPORT pcclResult_t pcclGetVersion(int *version_out);

/** Returns a constant English phrase for a status code. Never NULL, even for an unknown code. */
PCCL_EXPORT const char *pcclGetErrorString(pcclResult_t result);

/** Returns the text of the calling thread's last failure: what failed, the cause with the peer concerned, and what to do. Returns
 * "" if nothing has failed. The library owns the text. It is valid until the thread's next call of the library. */
PCCL_EXPORT const char *pcclGetLastError(void);

/* --------------------------------------------------------------------------------------------------------- communicator -- */

/** Creates a communicator. Opens no connection; pcclConnect does.
 *
 * @param[in]  params    Copied.
 * @param[out] comm_out  Owned by the caller, who passes it to pcclDestroyCommunicator.
 * @retval pcclInvalidArgument  An argument is NULL, or the master's address has no port. */
PCCL_EXPORT pcclResult_t pcclCreateCommunicator(const pcclCommCreateParams_t *params, pcclComm_t **comm_out);

/** All settings of a communicator. Set the defaults with pcclCommConfigInit, then change fields. */
typedef struct pcclCommConfig_t {
    size_t struct_size; /**< sizeof(pcclCommConfig_t), set by pcclCommConfigInit */
    /** "host:port", "address:port", "[v6]:port" or "[v6%zone]:port". The default port is 48148. The zone is an interface of
     * this host, by name or number. A list with commas names several places where the master may run; they are tried in turn.
     * */
    const char *master_address;
    uint32_t peer_group;               /**< the peer's group; reduces and shared state stay inside a group */
    uint32_t p2p_connection_pool_size; /**< lanes: TCP connections per link, at most 64; 0: the library chooses */
    /** Local address to listen on; NULL: all, IPv4 and IPv6. Its zone ("fe80::1%eth0") is used to connect to link-local
     * addresses of other peers; without a zone they are reached through the interface that leads to the master. */
    const char *listen_address;
    uint16_t listen_port_first; /**< first port to try; 0: 48149 */
    uint16_t listen_port_last;  /**< last port to try, inclusive; 0: first + 1023 (at most 65535) */
    /** "host" or "host:port" under which other peers reach this one; NULL: the address that the master sees. */
    const char *advertise_address;
    /** Limit of one attempt to reach the master or a peer, including the look-up of its name, and of the look-up of
     * `advertise_address`. 0: 5000. */
    uint32_t connect_timeout_ms;
    /** Congestion control of the data connections, as the system names it ("bbr", "cubic"). If the system does not offer it,
     * pcclConnect fails. NULL: bbr on paths of 1 ms and more if the system offers it. */
    const char *congestion_control;
    /** Limit of the wait for a lost master that keeps a journal. Calls block during the wait and then return
     * pcclMasterConnectionFailed. 0: 600000, ten minutes. */
    uint32_t master_limit_ms;
    pcclCompression_t compression; /**< for chunks of reduces and of shared state that this peer sends */
    /** Peers that pass the same number form an *island*, for example the processes that hold one copy of a model together. The
     * island is admitted as a whole when its last peer is ready. If one of its peers is lost or leaves, the whole island is out
     * of the run. The peers of an island agree on a random number, and on a new one each time the island joins. 0: no island.
     * */
    uint64_t island;
    /** Number of peers of the island, 1 to 4096, each in a separate group. An island is refused if not all of its peers have
     * joined within three times the master's `misuse_grace_ms`. 0 without an island. */
    uint32_t island_peers;
} pcclCommConfig_t;

/** Sets every field to its default.
 * @retval pcclInvalidArgument  `config` is NULL. */
PCCL_EXPORT pcclResult_t pcclCommConfigInit(pcclCommConfig_t *config);
/** As pcclCommConfigInit, for a structure of `struct_size` bytes. The macro calls this. */
PCCL_EXPORT pcclResult_t pcclCommConfigInitSized(pcclCommConfig_t *config, size_t struct_size);
#define pcclCommConfigInit(config) pcclCommConfigInitSized((config), sizeof(pcclCommConfig_t))

/** As pcclCreateCommunicator, with all settings. Host names are resolved in pcclConnect.
 *
 * @param[in]  config    Copied, including its strings.
 * @param[out] comm_out  Owned by the caller, who passes it to pcclDestroyCommunicator.
 * @retval pcclInvalidArgument  An argument is NULL, `struct_size` is not set, or a value is invalid; pcclGetLastError names it.
 */
PCCL_EXPORT pcclResult_t pcclCreateCommunicatorWithConfig(const pcclCommConfig_t *config, pcclComm_t **comm_out);

/** Returns a size of the run. Does not communicate. Thread-safe.
 * @retval pcclInvalidUsage     Not connected. Call pcclConnect first.
 * @retval pcclInvalidArgument  An argument is NULL, or `attribute` is unknown. */
PCCL_EXPORT pcclResult_t pcclGetAttribute(const pcclComm_t *communicator, pcclAttribute_t attribute, int *p_attribute_out);

/** Leaves the run and frees the communicator. Operations in flight end at this peer first; after that the library does not touch
 * their buffers. No other thread may be inside a call on the communicator. In a forked child of the process that created it, this
 * call does nothing and other calls on it return pcclInvalidUsage, because the child has none of its connections. */
PCCL_EXPORT pcclResult_t pcclDestroyCommunicator(pcclComm_t *communicator);

/** Joins the run. Blocks.
 *
 * The first peer of a run is admitted at once. A later peer waits until every member has called pcclUpdateTopology.
 *
 * @retval pcclMasterConnectionFailed  The master cannot be reached or refused this peer, or no name server answered. May be
 * called again.
 * @retval pcclInvalidArgument         The name in `advertise_address` has no address.
 * @retval pcclRankConnectionFailed    Too few members can be reached, or can reach this peer, to form a ring; or not all peers of
 * this peer's island have come. Check addresses, ports and firewalls, then call again.
 * @retval pcclInvalidUsage            Already connected, or the master has another version of the protocol.
 * @retval pcclRankConnectionLost      pcclAbort was called. */
PCCL_EXPORT pcclResult_t pcclConnect(pcclComm_t *communicator);

/** Admits the newcomers whose connections are ready. Every member of the run, in all groups, makes this call. It returns when all
 * have made it or have left. The world grows only in this call. A newcomer's pcclConnect is its part of this call, so a peer
 * skips pcclUpdateTopology in the iteration in which it joined.
 *
 * @retval pcclPendingAsyncOps  Operations are outstanding. Await them first.
 * @retval pcclInvalidUsage     Not connected, or another member waits in a call that can never meet this one.
 * @retval pcclMasterConnectionFailed  The master is gone, or has removed this peer. Connect again. */
PCCL_EXPORT pcclResult_t pcclUpdateTopology(pcclComm_t *communicator);

/** Asks whether a newcomer is ready to be admitted. The k-th call since the last pcclUpdateTopology returns the same answer at
 * every member, so all members take the same branch. Waits for the master and never for other members. Allowed while reduces run.
 * @param[out] pending_out  True if pcclUpdateTopology would admit a peer. */
PCCL_EXPORT pcclResult_t pcclArePeersPending(const pcclComm_t *communicator, bool *pending_out);

/** Measures the bandwidth of the paths between peers that have not been measured yet, and forms the best ring: the one whose
 * slowest link is fastest. Every member of the run makes this call. Blocks.
 *
 * @retval pcclInvalidUsage                Alone in the run, or as in pcclUpdateTopology.
 * @retval pcclTopologyOptimizationFailed  No ring connects the members. The previous ring remains in use.
 * @retval pcclPendingAsyncOps             Operations are outstanding. Await them first. */
PCCL_EXPORT pcclResult_t pcclOptimizeTopology(const pcclComm_t *communicator);

/** Makes every blocked call on this communicator return pcclRankConnectionLost, on every thread, and ends the communicator's
 * operations at every member. The communicator remains connected and usable. Thread-safe. Does not block. */
PCCL_EXPORT pcclResult_t pcclAbort(pcclComm_t *communicator);

/** Sets a function that the library calls about 20 times a second on the calling thread while a call of this thread on a
 * communicator blocks. It serves for deadlines, and for languages that must poll for Ctrl-C. To end the blocked call, the hook
 * calls pcclAbort. It must not make any other call on the communicator.
 * @param[in] hook     Applies to the calling thread until it sets another one. NULL: none.
 * @param[in] context  Passed to `hook`; must stay valid as long as the hook is set. */
PCCL_EXPORT pcclResult_t pcclSetWaitHook(void (*hook)(void *context), void *context);

/* ------------------------------------------------------------------------------------------------------------ reduction -- */

/** Combines one buffer per peer of the group, element by element, and gives every peer the same bits.
 *
 * Every member of the group makes the same call (tag, count, types, operator, quantization). The n-th call with a tag is matched
 * with the n-th call of every other member. If a peer is lost, the call fails at every survivor, including survivors that make it
 * later, and `sendbuff` is unchanged. Blocks. Thread-safe for distinct tags on one communicator.
 *
 * @param[in]  sendbuff         `descriptor->count` elements, any alignment. May equal `recvbuff`; otherwise must not overlap it.
 * @param[out] recvbuff         Room for `descriptor->count` elements. Undefined after a failure unless it is `sendbuff`.
 * @param[out] reduce_info_out  Number of peers and bytes moved. NULL if not wanted.
 * @retval pcclRankConnectionLost  A member was lost, or pcclAbort was called. Call again at once: the survivors are the new
 * world.
 * @retval pcclTooFewPeers         This peer is alone in its group; nothing was changed. Wait for peers.
 * @retval pcclInvalidUsage        Not connected; the members' descriptors differ; an operation with this tag has not ended; or
 * the buffers overlap those of another operation; or the program changed or freed a buffer during the operation and the library
 * noticed it (the other members then get pcclRankConnectionLost).
 * @retval pcclInvalidArgument     An argument is NULL, `count` is 0, an enum value is unknown, or quantization of integers is
 * requested.
 * @retval pcclMasterConnectionFailed  The master is gone, or has removed this peer. Connect again.
 *
 * Source of the ring algorithm: Patarasuk and Yuan 2009, sec. 3. Source of the rules for failures: docs/internals/protocol.md. */
PCCL_EXPORT pcclResult_t pcclAllReduce(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                       const pcclComm_t *communicator, pcclReduceInfo_t *reduce_info_out);

/** Starts pcclAllReduce and returns. The library owns the buffers until pcclAwaitAsyncReduce returns.
 * @param[out] reduce_handle_out  Plain data. Await it exactly once, from any thread. Set only if the launch succeeds.
 * @retval pcclTooFewPeers   This peer is alone in its group; nothing was launched. Wait for peers.
 * @retval pcclInvalidUsage  An operation with this tag has not ended, or the buffers overlap those of an operation. There is no
 * handle to await. */
PCCL_EXPORT pcclResult_t pcclAllReduceAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                            const pcclComm_t *communicator, pcclAsyncReduceOp_t *reduce_handle_out);

/** Waits for an operation and returns its outcome: one of the codes of pcclAllReduce. Blocks.
 * @param[out] reduce_info_out  NULL if not wanted.
 * @retval pcclInvalidUsage  No operation with this handle is outstanding: it was never launched, or was awaited before. */
PCCL_EXPORT pcclResult_t pcclAwaitAsyncReduce(const pcclAsyncReduceOp_t *reduce_handle, pcclReduceInfo_t *reduce_info_out);

/** Sets every field to its default. A call with these options equals a call without options.
 * @retval pcclInvalidArgument  `options` is NULL. */
PCCL_EXPORT pcclResult_t pcclReduceOptionsInit(pcclReduceOptions_t *options);
/** As pcclReduceOptionsInit, for a structure of `struct_size` bytes. The macro calls this. */
PCCL_EXPORT pcclResult_t pcclReduceOptionsInitSized(pcclReduceOptions_t *options, size_t struct_size);
#define pcclReduceOptionsInit(options) pcclReduceOptionsInitSized((options), sizeof(pcclReduceOptions_t))
/** Sets every field to zero except `struct_size`.
 * @retval pcclInvalidArgument  `report` is NULL. */
PCCL_EXPORT pcclResult_t pcclReduceReportInit(pcclReduceReport_t *report);
/** As pcclReduceReportInit, for a structure of `struct_size` bytes. The macro calls this. */
PCCL_EXPORT pcclResult_t pcclReduceReportInitSized(pcclReduceReport_t *report, size_t struct_size);
#define pcclReduceReportInit(report) pcclReduceReportInitSized((report), sizeof(pcclReduceReport_t))

/** As pcclAllReduce, with options and a report.
 * @param[in]  options  NULL for the defaults.
 * @param[out] report   NULL if not wanted. Filled in after a failure as well.
 * @retval pcclInvalidArgument  As in pcclAllReduce; or a `struct_size` is not set; or a value in `options` is unknown. With
 *                              `check_finite`, at every member: an element of some member is infinite or NaN.
 * @retval pcclInvalidUsage     As in pcclAllReduce; or the members' options differ. */
PCCL_EXPORT pcclResult_t pcclAllReduceWithOptions(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                                  const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                                  pcclReduceReport_t *report);

/** Discards the residual that error feedback keeps for operations with this tag. Thread-safe.
 *
 * Each communicator keeps one residual per tag, for the elements that it has rounded. It takes 4 bytes per element of the buffer
 * (8 for doubles), and twice that during an operation. An operation that fails leaves the residual unchanged, and so do
 * membership changes. A newcomer's residual is zero. The residual of a lost peer is lost. If count or type differ from the
 * previous operation with this tag, the residual is reset to zero and a warning is logged. A program that always takes new tags
 * must drop each one when it no longer needs it. Must not be called while an operation with this tag is in flight.
 *
 * @retval pcclInvalidArgument  `communicator` is NULL.
 *
 * Source: Seide et al. 2014; docs/training/quantization.md for partial sums that are rounded at each hop. */
PCCL_EXPORT pcclResult_t pcclDropErrorFeedback(const pcclComm_t *communicator, uint64_t tag);

/** As pcclAllReduceAsync, with options.
 * @param[in] options  Copied. NULL for the defaults. */
PCCL_EXPORT pcclResult_t pcclAllReduceAsyncWithOptions(const void *sendbuff, void *recvbuff,
                                                       const pcclReduceDescriptor_t *descriptor,
                                                       const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                                       pcclAsyncReduceOp_t *reduce_handle_out);

/** As pcclAwaitAsyncReduce, with a report. Works for every kind of operation in flight.
 * @param[out] report  NULL if not wanted. Filled in after a failure as well. */
PCCL_EXPORT pcclResult_t pcclAwaitAsyncReduceWithReport(const pcclAsyncReduceOp_t *reduce_handle, pcclReduceReport_t *report);

/** Runs `count` all-reduces with distinct tags, at most `max_in_flight` at a time. Repeats operations that fail because a peer
 * was lost, until all have succeeded. Blocks.
 *
 * @param[in]  descriptors      `count` operations. Every member passes them in the same order.
 * @param[out] reduce_info_out  Bytes summed over all operations and attempts, and the smallest number of peers that took part in
 * one of them. NULL if not wanted.
 * @retval pcclTooFewPeers      This peer is alone in its group. The buffers of operations that have not succeeded are unchanged.
 * @retval pcclInvalidArgument  As in pcclAllReduce; or two tags are equal; or `max_in_flight` is below 1.
 * Other codes are those of pcclAllReduce. */
PCCL_EXPORT pcclResult_t pcclAllReduceMultipleWithRetry(const pcclReduceOpDescriptor_t *descriptors, size_t count,
                                                        const pcclComm_t *communicator, pcclReduceInfo_t *reduce_info_out,
                                                        int max_in_flight);

/* --------------------------------------------------------------------------------------------------------- shared state -- */

/** Makes the named tensors of the group bit-identical. Every member of the group makes this call. Blocks.
 *
 * The first synchronization of a group accepts any revision, and the highest one that is offered wins. Each later synchronization
 * expects the last revision plus one. The most common content at the expected revision wins. Peers with different content receive
 * only the 1 MiB chunks that differ. A peer that offers an older revision, newcomer or member, receives everything that differs,
 * and its `revision` is set. If no peer offers the expected revision, the newest revision that a member offers is synchronized.
 *
 * A peer is removed from the run if the names, types or sizes of its tensors differ from the group's, if its revision is higher
 * than expected, or if it is SEND_ONLY with an older revision than other peers. Its call fails with pcclInvalidUsage, and
 * pcclGetLastError states the reason.
 *
 * @param[in,out] shared_state   Tensors owned by the caller. The program must not touch them during the call.
 * @param[in]     strategy       The role of this peer in this call.
 * @param[out]    sync_info_out  NULL if not wanted.
 * @retval pcclNoSharedStateAvailable  Every member is RECEIVE_ONLY, or all holders of the winning content were lost. Call again
 * when a peer offers content.
 * @retval pcclPendingAsyncOps         Operations are outstanding. Await them first.
 * @retval pcclRankConnectionLost      A member was lost, or pcclAbort was called. Call again.
 * @retval pcclInvalidUsage            Not connected, or this peer was removed. */
PCCL_EXPORT pcclResult_t pcclSynchronizeSharedState(const pcclComm_t *communicator, pcclSharedState_t *shared_state,
                                                    pcclSharedStateSyncStrategy_t strategy,
                                                    pcclSharedStateSyncInfo_t *sync_info_out);

/* --------------------------------------------------------------------------------------------------------------- master -- */

/** Creates a master and binds its address. It serves no peer before pcclRunMaster. All calls on a master work before pcclInit.
 *
 * @param[in]  listen_address       0.0.0.0 or [::] for all addresses; port 0 for any free port, see pcclMasterGetPort.
 * @param[out] p_master_handle_out  Owned by the caller, who passes it to pcclDestroyMaster.
 * @retval pcclInvalidArgument         `p_master_handle_out` is NULL, or the address family is unknown.
 * @retval pcclMasterConnectionFailed  The address cannot be bound; pcclGetLastError has the system's reason. */
PCCL_EXPORT pcclResult_t pcclCreateMaster(ccoip_socket_address_t listen_address, pcclMasterInstance_t **p_master_handle_out);

/** All settings of a master. Set the defaults with pcclMasterConfigInit, then change fields. */
typedef struct pcclMasterConfig_t {
    size_t struct_size; /**< sizeof(pcclMasterConfig_t), set by pcclMasterConfigInit */
    /** "host:port", "[v6]:port", "[v6%zone]:port" or "port"; default "0.0.0.0:48148". The look-up of a name takes at most 15 s.
     * */
    const char *listen_address;
    uint32_t heartbeat_timeout_ms; /**< a peer that is silent for longer is removed; at least 100, default 10000 */
    /** Calls that can never meet fail after this time (three times this time if a thread that is not blocked might still make
     * the matching call). A newcomer that no ring can include is refused after it. Default 10000. */
    uint32_t misuse_grace_ms;
    uint32_t max_connections; /**< limit of open connections, from peers and unauthenticated clients together; default 8192 */
    /** A file from which another process continues the run if this one ends. "new:FILE" starts a new run and renames an
     * existing file. Written when members or shared state change, never for a reduce. NULL: none, and the run ends with its
     * master. */
    const char *journal;
    /** Members that have not returned to a restarted master after this time are lost; default 10000. */
    uint32_t recovery_window_ms;
    /** A peer for which half of the other peers wait longer than this is named in the log; default 10000. */
    uint32_t straggler_after_ms;
    uint32_t remove_stragglers_after_ms; /**< and is removed after this time; default 0: never */
} pcclMasterConfig_t;

/** Sets every field to its default.
 * @retval pcclInvalidArgument  `config` is NULL. */
PCCL_EXPORT pcclResult_t pcclMasterConfigInit(pcclMasterConfig_t *config);
/** As pcclMasterConfigInit, for a structure of `struct_size` bytes. The macro calls this. */
PCCL_EXPORT pcclResult_t pcclMasterConfigInitSized(pcclMasterConfig_t *config, size_t struct_size);
#define pcclMasterConfigInit(config) pcclMasterConfigInitSized((config), sizeof(pcclMasterConfig_t))
/** As pcclCreateMaster, with all settings.
 * @param[in]  config  Copied, including its strings.
 * @param[out] out     Owned by the caller, who passes it to pcclDestroyMaster.
 * @retval pcclInvalidArgument  An argument is NULL, or a value is invalid; or the journal is damaged, of a newer version, or in
 * use by another master. pcclGetLastError names the cause and what to do. A damaged journal is never used in part.
 * @retval pcclInternalError    The journal cannot be written; pcclGetLastError has the system's reason.
 * @retval pcclMasterConnectionFailed  The address cannot be bound; pcclGetLastError has the system's reason. */
PCCL_EXPORT pcclResult_t pcclCreateMasterWithConfig(const pcclMasterConfig_t *config, pcclMasterInstance_t **out);
/** Returns the port on which the master listens. If port 0 was requested, this is the port that the system chose.
 * @retval pcclInvalidArgument  An argument is NULL. */
PCCL_EXPORT pcclResult_t pcclMasterGetPort(const pcclMasterInstance_t *master_instance, uint16_t *port_out);

/** Starts to serve peers on a thread of the master, and returns.
 * @retval pcclInvalidUsage  The master is running or has ended. Create another one. */
PCCL_EXPORT pcclResult_t pcclRunMaster(pcclMasterInstance_t *master_instance);
/** Asks the master to end. Peers see their connections close. Does not block.
 * @retval pcclInvalidUsage  The master is not running. */
PCCL_EXPORT pcclResult_t pcclInterruptMaster(pcclMasterInstance_t *master_instance);
/** Blocks until the master has ended.
 * @retval pcclInvalidUsage  The master was never started. */
PCCL_EXPORT pcclResult_t pcclMasterAwaitTermination(pcclMasterInstance_t *master_instance);
/** Ends the master if it is running, and frees it. */
PCCL_EXPORT pcclResult_t pcclDestroyMaster(pcclMasterInstance_t *master_instance);

#ifdef __cplusplus
}
#endif

#include <pccl/collectives.h>

#endif
