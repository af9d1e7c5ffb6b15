/* PCCL: a fault-tolerant collective communication library.
 *
 * A *master* keeps the membership of a *run*; *peers* join and leave it at any time and combine their data directly with one
 * another. A call that fails says what to do next, and leaves what it read as it was; what each may have written is told beside it.
 *
 * Threads: a communicator may be used from several threads. Reduces of distinct tags may be launched and awaited anywhere; the
 * calls that need every peer of the run or group (connect, update, optimize, synchronize) are one at a time per communicator.
 * Errors: every function returns a pcclResult_t; pcclGetLastError() has the calling thread's last failure in words.
 * Structures that begin with `struct_size` grow in later releases, at their end. A program built against another release's header
 * works: what it lacks keeps its default, and what this library lacks must be as its Init left it (else pcclInvalidArgument). The Init
 * functions are macros that give the program's own size to the function with "Sized" at its end; as functions they set what version
 * 2.0.0 had. `struct_size` of pcclReduceReport_t says how much the library may write.
 * Environment: PCCL_LOG_LEVEL = DEBUG, INFO, WARN (default), ERROR, FATAL or OFF; the log goes to standard error. */
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

/** Element types. 16-bit floats are IEEE binary16 and bfloat16, held in two bytes, native byte order. */
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
    pcclInt4 = 12,  /**< signed, two in a byte: only as `quantized_datatype` */
    pcclUint4 = 13, /**< two in a byte: only as `quantized_datatype` */
    pcclUint2 = 14  /**< four in a byte: only as `quantized_datatype` */
} pcclDataType_t;

/** Where a tensor lives. pcclDeviceCuda needs a build with CUDA (see pcclGetBuildInfo). */
typedef enum pcclDeviceType_t { pcclDeviceCpu = 0, pcclDeviceCuda = 1 } pcclDeviceType_t;

/** Reduction operators. Integers wrap modulo 2^bits. pcclAvg is the sum divided by the number of peers that took part; integer
 * averages divide the wrapped sum and truncate toward zero. 16-bit floats accumulate in float32. */
typedef enum pcclRedOp_t { pcclSum = 0, pcclAvg = 1, pcclProd = 2, pcclMax = 3, pcclMin = 4 } pcclRedOp_t;

/** What pcclGetAttribute can be asked for. Sizes are those that the last call which returned saw. */
typedef enum pcclAttribute_t {
    PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE = 1,           /**< peers in the run, over all peer groups */
    PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE = 2,       /**< peers in the caller's group */
    PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS = 3,    /**< groups with at least one peer */
    PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE = 4 /**< peers in the largest group */
} pcclAttribute_t;

/** How a peer takes part in one shared-state synchronization. */
typedef enum pcclSharedStateSyncStrategy_t {
    PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR = 0, /**< the most common content at the expected revision wins */
    PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY = 1,    /**< this peer's content never wins; it sends nothing */
    PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY = 2        /**< this peer's content must win and is never overwritten */
} pcclSharedStateSyncStrategy_t;

/** A hint about the distribution of the data. Accepted for compatibility; the quantizers measure each block instead. */
typedef enum pcclDistributionHint_t {
    pcclDistributionNone = 0,
    pcclDistributionNormal = 1,
    pcclDistributionUniform = 2
} pcclDistributionHint_t;

/** How values are packed on the wire, in blocks of elements whose range or scale travels beside them: 256 of them, or with
 * pcclQuantBlockScale as many as pcclReduceOptions_t says. */
typedef enum pcclQuantizationAlgorithm_t {
    pcclQuantNone = 0,           /**< elements travel as they are */
    pcclQuantMinMax = 1,         /**< affine between each block's minimum and maximum */
    pcclQuantZeroPointScale = 2, /**< scale and integer zero point: zero stays exactly zero where a block's range holds it */
    pcclQuantBlockScale = 3 /**< to pcclInt8, pcclInt4, pcclUint4 or pcclUint2: a multiple of the scale of a small block, whose
                               element of largest magnitude has the largest code. Zero stays exactly zero */
} pcclQuantizationAlgorithm_t;

/** What pcclQuantBlockScale multiplies a block's integers with. */
typedef enum pcclQuantizationScale_t {
    pcclScaleFloat = 0,     /**< a float (double for double operands): the smallest error */
    pcclScalePowerOfTwo = 1 /**< a power of two: one byte (two for double operands, and for pcclUint4 and pcclUint2), up to half
                               as much error again, no rounding when values are unpacked */
} pcclQuantizationScale_t;

/** Who sends what to whom in an all-reduce. One that cannot work where it was asked for gives way to the next that can, the same at
 * every member: pcclAlgorithmDirect to pcclAlgorithmOneHop to pcclAlgorithmRing. pcclReduceReport_t says which was taken. */
typedef enum pcclReduceAlgorithm_t {
    pcclAlgorithmAuto = 0,   /**< the library chooses, from facts that all members share */
    pcclAlgorithmRing = 1,   /**< round the ring twice, 2(N-1) hops: needs no more than a ring of connections */
    pcclAlgorithmDirect = 2, /**< every contribution to everyone, one hop. Up to 1 MiB and 64 peers, all of them connected, not quantized */
    pcclAlgorithmOneHop = 3  /**< each part to its owner and, combined, from there to everyone: two hops. All peers connected */
} pcclReduceAlgorithm_t;

/** What becomes of an all-reduce when a member is lost before it is done. */
typedef enum pcclLossPolicy_t {
    pcclLossPolicyRetry = 0, /**< it fails at every survivor, which may call it again */
    pcclLossPolicyRepair = 1 /**< for averages: it goes on among the survivors. What is final at any of them stays and reaches all; the rest is
                             averaged again over those who are left. So each element is a true average of those who took part in it, and
                             a loss near the end costs what was not final yet */
} pcclLossPolicy_t;

/** Whether bulk data is compressed (zstd, without loss) on its way to other peers. Every peer understands it, whatever it chooses itself,
 * and results do not depend on it. */
typedef enum pcclCompression_t {
    pcclCompressionAuto = 0, /**< where the path to a peer is measured to be slower than the codec, and the data shrink */
    pcclCompressionOff = 1,  /**< never */
    pcclCompressionOn = 2    /**< always, whatever it costs; what does not shrink travels as it is */
} pcclCompression_t;

/** An opaque handle of one peer's membership. Owned by the caller from pcclCreateCommunicator to pcclDestroyCommunicator. */
typedef struct pcclComm_t pcclComm_t;
typedef struct pcclRankInfo_t pcclRankInfo_t;
/** An opaque handle of a master that runs inside this process. */
typedef struct pcclMasterInstanceState_t pcclMasterInstance_t;

typedef struct pcclCommCreateParams_t {
    ccoip_socket_address_t master_address;
    uint32_t peer_group;               /**< reduces and shared state stay inside a group */
    uint32_t p2p_connection_pool_size; /**< TCP connections per pair of neighbours; 0 lets the library choose */
} pcclCommCreateParams_t;

typedef struct pcclReduceInfo_t {
    uint32_t local_world_size; /**< peers that took part, to the end */
    uint64_t tx_bytes;         /**< bytes this peer sent for the operation, headers included */
    uint64_t rx_bytes;         /**< bytes this peer received for the operation, headers included */
} pcclReduceInfo_t;

typedef struct pcclReduceOperandDescriptor_t {
    pcclDataType_t datatype;
    pcclDistributionHint_t distribution_hint;
} pcclReduceOperandDescriptor_t;

/** Zeroed: no quantization. `quantized_datatype` is pcclUint8, pcclInt8, pcclUint16, pcclInt16, pcclUint4 or pcclUint2, and with
 * pcclQuantBlockScale pcclInt8, pcclInt4, pcclUint4 or pcclUint2. It counts only if `algorithm` is set. The operand must then be
 * a floating-point type. docs/training/quantization.md has the errors. */
typedef struct pcclQuantizationOptions_t {
    pcclDataType_t quantized_datatype;
    pcclQuantizationAlgorithm_t algorithm;
} pcclQuantizationOptions_t;

typedef struct pcclReduceDescriptor_t {
    size_t count; /**< elements, at least 1 */
    pcclRedOp_t op;
    uint64_t tag; /**< names the operation among those in flight at the same time */
    pcclReduceOperandDescriptor_t src_descriptor;
    pcclQuantizationOptions_t quantization_options;
} pcclReduceDescriptor_t;

/** How one all-reduce is carried out, beyond what pcclReduceDescriptor_t says. Set defaults with pcclReduceOptionsInit, then change
 * fields. Every member of the group gives the same, as with the descriptor. */
typedef struct pcclReduceOptions_t {
    size_t struct_size; /**< sizeof(pcclReduceOptions_t), set by pcclReduceOptionsInit */
    pcclReduceAlgorithm_t algorithm;
    uint32_t quantization_block; /**< elements that share a scale with pcclQuantBlockScale: 32, 64, 128, 256, 512; 0: 32. Else 0 */
    pcclQuantizationScale_t quantization_scale; /**< with pcclQuantBlockScale */
    bool error_feedback; /**< of quantized sums and averages: what rounding takes from an operation is added to the next one with its tag,
                              so that nothing is lost in the long run. See pcclDropErrorFeedback */
    pcclLossPolicy_t on_peer_loss;   /**< pcclLossPolicyRepair is for pcclAvg. In place, it keeps no copy of what it overwrites: should the call fail after
                              all (pcclAbort, or this peer loses the master), each element of the buffer is either what it was or the
                              average. What pcclAlgorithmDirect and pcclAlgorithmOneHop carry begins anew after a loss */
    bool check_finite;   /**< looks through what this peer gives before anything is sent. If an element is infinite or not a number, the call
                              fails at every member with pcclInvalidArgument, and pcclGetLastError names the peer and the first such element.
                              `sendbuff` is unchanged. Each peer checks its own buffer, in the thread of the call, at the speed of memory.
                              A sum of finite values that overflows is not noticed. Members can differ in this option */
} pcclReduceOptions_t;

/** How one all-reduce went. */
typedef struct pcclReduceReport_t {
    size_t struct_size;              /**< sizeof(pcclReduceReport_t), set by pcclReduceReportInit */
    uint32_t world_size;             /**< peers that took part to the end */
    uint32_t lanes;                  /**< TCP connections to the next peer of the ring when the operation began */
    uint64_t tx_bytes;               /**< bytes this peer sent for the operation, headers included */
    uint64_t rx_bytes;               /**< bytes this peer received for the operation, headers included */
    uint64_t chunk_bytes;            /**< the largest piece that moves by itself, as bytes of `sendbuff` */
    pcclReduceAlgorithm_t algorithm; /**< that was taken; pcclAlgorithmAuto if the operation never began */
    uint32_t repairs;                /**< changes of the membership that it went on after */
    uint32_t fewest_took_part;       /**< peers that took part in the elements in which the fewest did: 1 if this peer was left alone */
    uint64_t fewest_elements;        /**< in how many elements so few took part; `count` where nobody was lost */
    uint64_t repair_tx_bytes;        /**< of tx_bytes, those sent after the first loss */
    uint64_t saved_tx_bytes;         /**< bytes that compression took from tx_bytes; 0 where nothing was compressed */
} pcclReduceReport_t;

/** One operation of pcclAllReduceMultipleWithRetry. */
typedef struct pcclReduceSingleDescriptor_t {
    void *sendbuf;
    void *recvbuf;
    pcclReduceDescriptor_t descriptor;
} pcclReduceOpDescriptor_t;

/** A handle of an operation in flight: plain data, awaited exactly once. */
typedef struct pcclAsyncReduceOp_t {
    pcclComm_t *comm;
    uint64_t tag;
} pcclAsyncReduceOp_t;

typedef struct pcclRankUuid_t {
    uint8_t data[16];
} pcclRankUuid_t;

/** Identifies a peer of a run: 16 bytes that the master chose when the peer joined. `pcclRankUuid_t` is version 1's name of this type. */
typedef pcclRankUuid_t pcclPeerId_t;

typedef struct pcclTensorInfo_t {
    const char *name; /**< unique in the shared state; at most 1024 bytes */
    void *data;       /**< `count` elements; may be NULL if `count` is 0 */
    size_t count;     /**< elements */
    pcclDataType_t datatype;
    pcclDeviceType_t device_type;
    bool allow_content_inequality; /**< compared by name and shape alone; sent only to peers that are behind in revision */
} pcclTensorInfo_t;

typedef struct pcclSharedState_t {
    uint64_t revision; /**< in: the revision offered. out: the revision held */
    size_t count;      /**< tensors */
    pcclTensorInfo_t *infos;
} pcclSharedState_t;

typedef struct pcclSharedStateSyncInfo_t {
    uint64_t tx_bytes; /**< tensor bytes this peer sent in this synchronization */
    uint64_t rx_bytes; /**< tensor bytes this peer received; 0 if it already held the agreed content */
} pcclSharedStateSyncInfo_t;

typedef struct pcclBuildInfo_t {
    bool has_cuda_support;
} pcclBuildInfo_t;

/* -------------------------------------------------------------------------------------------------------------- library -- */

/** Initializes the library. Every call on a communicator needs it, once per process. These calls work without it: pcclGetBuildInfo,
 * pcclGetVersion, pcclGetErrorString, pcclGetLastError, the Init functions of structs, and all calls on a master. Calling it again does
 * nothing. Thread-safe.
 * Opens /dev/null at those of the descriptors 0, 1 and 2 that are closed, so that no socket is taken for a standard stream. */
PCCL_EXPORT pcclResult_t pcclInit(void);

/** Describes this build. Works before pcclInit. @retval pcclInvalidArgument `info` is NULL. */
PCCL_EXPORT pcclResult_t pcclGetBuildInfo(pcclBuildInfo_t *info);

/** Writes 10000*major + 100*minor + patch. Works before pcclInit. @retval pcclInvalidArgument `version_out` is NULL. */
PCCL_EXPORT pcclResult_t pcclGetVersion(int *version_out);

/** A constant English phrase for a status code; never NULL, also for codes that do not exist. */
PCCL_EXPORT const char *pcclGetErrorString(pcclResult_t result);

/** The calling thread's last failure in words: what failed, because of which peer, and what to do. "" if nothing failed.
 * The text belongs to the library and is valid until the thread's next pccl call. */
PCCL_EXPORT const char *pcclGetLastError(void);

/* --------------------------------------------------------------------------------------------------------- communicator -- */

/** Creates a communicator. Opens nothing yet: the first traffic is in pcclConnect.
 *
 * @param[in]  params    Copied.
 * @param[out] comm_out  Owned by the caller; give it to pcclDestroyCommunicator.
 * @retval pcclInvalidArgument  A NULL argument, or a master address without a port. */
PCCL_EXPORT pcclResult_t pcclCreateCommunicator(const pcclCommCreateParams_t *params, pcclComm_t **comm_out);

/** Everything that can be configured about a communicator. Set defaults with pcclCommConfigInit, then change fields. */
typedef struct pcclCommConfig_t {
    size_t struct_size;                /**< sizeof(pcclCommConfig_t), set by pcclCommConfigInit */
    const char *master_address;        /**< "host:port", "address:port", "[v6]:port" or "[v6%zone]:port"; the port may be left out (48148).
                                            The zone is an interface of this host, by name or number. Several, with commas between: where
                                            the master may be; they are tried in turn */
    uint32_t peer_group;
    uint32_t p2p_connection_pool_size; /**< TCP connections per pair of neighbours; 0: the library chooses */
    const char *listen_address;        /**< local address to listen on; NULL: all, IPv4 and IPv6. Link-local addresses of other peers are
                                            dialled through its zone ("fe80::1%eth0"); without one, through the interface that leads to
                                            the master */
    uint16_t listen_port_first;        /**< first port to try; 0: 48149 */
    uint16_t listen_port_last;         /**< last port to try, inclusive; 0: first + 1023 (at most 65535) */
    const char *advertise_address;     /**< "host" or "host:port" under which others reach this peer; NULL: as the master sees it */
    uint32_t connect_timeout_ms;       /**< for one attempt to reach the master or a peer, the look-up of its name included, and for the
                                            look-up of advertise_address; 0: 5000 */
    const char *congestion_control;    /**< of the data connections, as the system names it ("bbr", "cubic"); one that it does not
                                            offer makes pcclConnect fail. NULL: bbr where it is to be had on paths of 1 ms and more */
    uint32_t master_limit_ms;          /**< how long a master that keeps a journal is waited for when it is gone. Calls take longer
                                            meanwhile; then they return pcclMasterConnectionFailed. 0: 600000, ten minutes */
    pcclCompression_t compression;     /**< of what this peer sends: chunks of reduces and of shared state */
    uint64_t island;                   /**< peers that give the same number make up an *island*, such as the processes that hold one copy
                                            of a model together: all of it is admitted at once, when the last of its peers is ready, and when
                                            one is lost or leaves all of it is out of the run. A random number that the peers of an island
                                            agree on, and a new one whenever it joins. 0: none */
    uint32_t island_peers;             /**< of an island: how many peers make it up, 1 to 4096, each of a group of its own. One that not all of
                                            them come to within three times the master's misuse_grace_ms is refused */
} pcclCommConfig_t;

/** Sets every field to its default. @retval pcclInvalidArgument `config` is NULL. */
PCCL_EXPORT pcclResult_t pcclCommConfigInit(pcclCommConfig_t *config);
PCCL_EXPORT pcclResult_t pcclCommConfigInitSized(pcclCommConfig_t *config, size_t struct_size);
#define pcclCommConfigInit(config) pcclCommConfigInitSized((config), sizeof(pcclCommConfig_t))

/** pcclCreateCommunicator with a configuration. Strings are copied; host names are resolved in pcclConnect.
 * @retval pcclInvalidArgument  A NULL argument, an unset `struct_size`, or an address or port range that makes no sense. */
PCCL_EXPORT pcclResult_t pcclCreateCommunicatorWithConfig(const pcclCommConfig_t *config, pcclComm_t **comm_out);

/** Reads a size of the run. @retval pcclInvalidUsage Not connected. @retval pcclInvalidArgument Unknown attribute or NULL. */
PCCL_EXPORT pcclResult_t pcclGetAttribute(const pcclComm_t *communicator, pcclAttribute_t attribute, int *p_attribute_out);

/** Leaves the run and frees the communicator. Operations in flight end at this peer first (their buffers are left alone from
 * then on); no other thread may be inside a call on it. In a fork of the process that made it, this does nothing, and other calls on it
 * return pcclInvalidUsage: a fork holds none of its connections. */
PCCL_EXPORT pcclResult_t pcclDestroyCommunicator(pcclComm_t *communicator);

/** Joins the run.
 *
 * The first peer of a run is admitted at once; a later one blocks until every member has called pcclUpdateTopology.
 *
 * @retval pcclMasterConnectionFailed  The master cannot be reached, or refused; or no name server answered. The call may be made again.
 * @retval pcclInvalidArgument         The name in advertise_address has no address.
 * @retval pcclRankConnectionFailed    Not enough members can be reached (or can reach this peer) to form a ring; or this peer's island has
 *                                     not come in full.
 * @retval pcclInvalidUsage            Already connected; or the master speaks another version of the protocol.
 * @retval pcclRankConnectionLost      pcclAbort was called. */
PCCL_EXPORT pcclResult_t pcclConnect(pcclComm_t *communicator);

/** Admits the newcomers whose connections are ready. Every member of the run, over all groups, makes this call; it returns when
 * all have. The only call in which the world grows. A peer does not make it in the iteration in which it joined.
 *
 * @retval pcclPendingAsyncOps  Await your operations first.
 * @retval pcclInvalidUsage     Not connected, or another member waits in a call that can never meet this one. */
PCCL_EXPORT pcclResult_t pcclUpdateTopology(pcclComm_t *communicator);

/** Asks whether a newcomer is ready to be admitted. The k-th question since the last pcclUpdateTopology has the same answer at
 * every member of the group, so all of them branch alike. Waits for the master, never for other members. Allowed while reduces run. */
PCCL_EXPORT pcclResult_t pcclArePeersPending(const pcclComm_t *communicator, bool *pending_out);

/** Measures the bandwidth between peers that has not been measured yet and adopts the best ring: the one whose slowest link is
 * fastest. Every member of the run makes this call.
 *
 * @retval pcclInvalidUsage                 Alone in the run, or as in pcclUpdateTopology.
 * @retval pcclTopologyOptimizationFailed   No ring connects the members.
 * @retval pcclPendingAsyncOps              Await your operations first. */
PCCL_EXPORT pcclResult_t pcclOptimizeTopology(const pcclComm_t *communicator);

/** Makes every blocked call on this communicator return pcclRankConnectionLost, on any thread, and ends its operations at every
 * member. The communicator stays connected and usable. Safe from any thread; does not block. */
PCCL_EXPORT pcclResult_t pcclAbort(pcclComm_t *communicator);

/** Has `hook` called on this thread, about 20 times a second, while a call of this thread on a communicator blocks: for deadlines, and for
 * languages that learn of Ctrl-C by asking. To end the call, the hook calls pcclAbort; it makes no other call on the communicator.
 * @param[in] hook  Of the calling thread alone, until set again. NULL: none. */
PCCL_EXPORT pcclResult_t pcclSetWaitHook(void (*hook)(void *context), void *context);

/* ------------------------------------------------------------------------------------------------------------ reduction -- */

/** Combines one buffer per peer of the group, element by element, and gives every peer the same bits.
 *
 * Every member of the group makes the same call (tag, count, types, operator, quantization); the n-th call with a tag meets the
 * n-th of the others. If a peer is lost, the call fails at every survivor, including those that had not made it yet, and
 * `sendbuff` holds what it held before.
 *
 * @param[in]  sendbuff          `descriptor->count` elements, any alignment. May equal `recvbuff`, else must not overlap it.
 * @param[out] recvbuff          Room for `descriptor->count` elements. Undefined after a failure unless it is `sendbuff`.
 * @param[out] reduce_info_out   Who took part and the bytes moved. NULL if not wanted.
 * @retval pcclRankConnectionLost  Call again at once: the survivors are the new world.
 * @retval pcclTooFewPeers         Alone in the group; nothing was touched. Wait for peers.
 * @retval pcclInvalidUsage        Not connected; the members' descriptors differ; the tag names an operation that has not ended; buffers
 *                                 overlap those of another operation.
 *                                 Or this program modified or freed a buffer while the operation ran, and it was noticed: then
 *                                 the other members get pcclRankConnectionLost.
 * @retval pcclInvalidArgument     NULL, a count of 0, an unknown enum value, quantization of integers.
 * @retval pcclMasterConnectionFailed  The master is gone, or removed this peer. Connect again.
 * Blocks. Source of the ring algorithm: Patarasuk and Yuan 2009, sec. 3; of the fault rules: docs/internals/protocol.md. */
PCCL_EXPORT pcclResult_t pcclAllReduce(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                       const pcclComm_t *communicator, pcclReduceInfo_t *reduce_info_out);

/** Starts pcclAllReduce and returns. The buffers belong to the library until pcclAwaitAsyncReduce returns.
 * @param[out] reduce_handle_out  Plain data; await it exactly once, from any thread. Set only if the launch succeeds.
 * @retval pcclTooFewPeers   Alone in the group: nothing was launched.
 * @retval pcclInvalidUsage  The tag names an operation that has not ended, or the buffers overlap those of one. Nothing is to be awaited. */
PCCL_EXPORT pcclResult_t pcclAllReduceAsync(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                            const pcclComm_t *communicator, pcclAsyncReduceOp_t *reduce_handle_out);

/** Waits for an operation and returns its outcome: the codes of pcclAllReduce.
 * @retval pcclInvalidUsage  No such operation is outstanding: awaited before, or never launched. */
PCCL_EXPORT pcclResult_t pcclAwaitAsyncReduce(const pcclAsyncReduceOp_t *reduce_handle, pcclReduceInfo_t *reduce_info_out);

/** Sets every field to its default, with which a call is as one without options. @retval pcclInvalidArgument `options` is NULL. */
PCCL_EXPORT pcclResult_t pcclReduceOptionsInit(pcclReduceOptions_t *options);
PCCL_EXPORT pcclResult_t pcclReduceOptionsInitSized(pcclReduceOptions_t *options, size_t struct_size);
#define pcclReduceOptionsInit(options) pcclReduceOptionsInitSized((options), sizeof(pcclReduceOptions_t))
/** Zeroes a report but for its size. @retval pcclInvalidArgument `report` is NULL. */
PCCL_EXPORT pcclResult_t pcclReduceReportInit(pcclReduceReport_t *report);
PCCL_EXPORT pcclResult_t pcclReduceReportInitSized(pcclReduceReport_t *report, size_t struct_size);
#define pcclReduceReportInit(report) pcclReduceReportInitSized((report), sizeof(pcclReduceReport_t))

/** pcclAllReduce with options and a report.
 * @param[in]  options  NULL for the defaults.
 * @param[out] report   NULL if not wanted. Filled in after a failure, too.
 * @retval pcclInvalidArgument  Also: an unset `struct_size`, an unknown value in `options`. With check_finite, at every member: an element that
 *                              some member gives is infinite or not a number.
 * @retval pcclInvalidUsage     Also: the members' options differ. */
PCCL_EXPORT pcclResult_t pcclAllReduceWithOptions(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                                  const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                                  pcclReduceReport_t *report);

/** Forgets what error feedback holds back for the operations with this tag.
 *
 * Each communicator keeps a residual per tag, of the elements that it rounded: 4 bytes per element of the buffer (8 for doubles), twice that
 * while an operation runs. An operation that fails leaves it as it was; so do members that come and go: a newcomer's begins at zero, and
 * what a lost peer held back is lost. Another count or type than the last begins anew at zero, with a warning in the log.
 * A program that takes new tags all the time drops each when it needs it no more. Not while an operation with this tag is in flight. Thread-safe. @retval pcclInvalidArgument `communicator` is NULL.
 * Source: Seide et al. 2014; for sums that are rounded on their way, docs/training/quantization.md. */
PCCL_EXPORT pcclResult_t pcclDropErrorFeedback(const pcclComm_t *communicator, uint64_t tag);

/** Starts pcclAllReduceWithOptions, as pcclAllReduceAsync does pcclAllReduce. `options` are copied; NULL for the defaults. */
PCCL_EXPORT pcclResult_t pcclAllReduceAsyncWithOptions(const void *sendbuff, void *recvbuff, const pcclReduceDescriptor_t *descriptor,
                                                       const pcclReduceOptions_t *options, const pcclComm_t *communicator,
                                                       pcclAsyncReduceOp_t *reduce_handle_out);

/** pcclAwaitAsyncReduce with a report, for operations however started. `report` is NULL if not wanted. */
PCCL_EXPORT pcclResult_t pcclAwaitAsyncReduceWithReport(const pcclAsyncReduceOp_t *reduce_handle, pcclReduceReport_t *report);

/** Runs `count` all-reduces with distinct tags, at most `max_in_flight` at a time, and repeats those that a lost peer made fail
 * until every one is done.
 *
 * @param[out] reduce_info_out  Bytes summed over all operations and attempts; the smallest number of peers that took part in one.
 * @retval pcclTooFewPeers      The world is down to this peer. Operations not yet done are untouched. */
PCCL_EXPORT pcclResult_t pcclAllReduceMultipleWithRetry(const pcclReduceOpDescriptor_t *descriptors, size_t count,
                                                        const pcclComm_t *communicator, pcclReduceInfo_t *reduce_info_out,
                                                        int max_in_flight);

/* --------------------------------------------------------------------------------------------------------- shared state -- */

/** Makes the named tensors of the group bit-identical. Every member of the group makes this call.
 *
 * The first synchronization of a group accepts any revision (the highest offered wins); later ones expect the last revision plus
 * one. The most common content at the expected revision wins; peers that differ receive just the 1 MiB chunks that differ. A peer that
 * offers an older revision, newcomer or member, receives all that differs, and its `revision` is set. If no peer offers the expected
 * revision, the newest one that a member offers is synchronized. A peer whose tensor names, types or counts differ from the group's, or
 * whose revision is beyond the expected one, is removed from the run: its call fails with pcclInvalidUsage and pcclGetLastError says
 * why. So is a SEND_ONLY peer with an older revision than the others.
 *
 * @param[in,out] shared_state  Tensors owned by the caller, not to be touched during the call.
 * @param[out]    sync_info_out NULL if not wanted.
 * @retval pcclNoSharedStateAvailable  Every member is RECEIVE_ONLY, or all holders of the winning content were lost.
 * @retval pcclPendingAsyncOps         Await your operations first. */
PCCL_EXPORT pcclResult_t pcclSynchronizeSharedState(const pcclComm_t *communicator, pcclSharedState_t *shared_state,
                                                    pcclSharedStateSyncStrategy_t strategy,
                                                    pcclSharedStateSyncInfo_t *sync_info_out);

/* --------------------------------------------------------------------------------------------------------------- master -- */

/** Creates a master bound to `listen_address` (0.0.0.0 or [::] for all; port 0 for any free one). Handles no peer before
 * pcclRunMaster. This call and all calls on a master work before pcclInit.
 *
 * @retval pcclMasterConnectionFailed  The address cannot be bound; pcclGetLastError says why. */
PCCL_EXPORT pcclResult_t pcclCreateMaster(ccoip_socket_address_t listen_address, pcclMasterInstance_t **p_master_handle_out);

/** Everything that can be configured about a master. Set defaults with pcclMasterConfigInit, then change fields. */
typedef struct pcclMasterConfig_t {
    size_t struct_size;            /**< sizeof(pcclMasterConfig_t), set by pcclMasterConfigInit */
    const char *listen_address;    /**< "host:port", "[v6]:port", "[v6%zone]:port" or "port"; default "0.0.0.0:48148". A name is looked up
                                        for 15 s at most */
    uint32_t heartbeat_timeout_ms; /**< a peer silent for longer is removed; default 10000, at least 100 */
    uint32_t misuse_grace_ms;      /**< callers in calls that can never meet are failed after this (three times this, where a thread
                                        that does not wait might still help), and newcomers that no ring includes refused; default 10000 */
    uint32_t max_connections;      /**< open connections, peers and strangers together; default 8192 */
    const char *journal;           /**< file from which another process finds the run again if this one ends ("new:FILE": begin a new run
                                        and rename what is there). Written when members or shared state change, never for a reduce.
                                        NULL: none, and the run ends with its master */
    uint32_t recovery_window_ms;   /**< members that have not come back to a restarted master after this are lost; default 10000 */
    uint32_t straggler_after_ms;   /**< a peer that keeps half of the others waiting for longer is named in the log; default 10000 */
    uint32_t remove_stragglers_after_ms; /**< and removed if it does so for this long; default 0: never */
} pcclMasterConfig_t;

/** Sets every field to its default. @retval pcclInvalidArgument `config` is NULL. */
PCCL_EXPORT pcclResult_t pcclMasterConfigInit(pcclMasterConfig_t *config);
PCCL_EXPORT pcclResult_t pcclMasterConfigInitSized(pcclMasterConfig_t *config, size_t struct_size);
#define pcclMasterConfigInit(config) pcclMasterConfigInitSized((config), sizeof(pcclMasterConfig_t))
/** pcclCreateMaster with a configuration. Strings are copied.
 * @retval pcclInvalidArgument  Also a journal that is damaged, of a newer version, or in use; pcclGetLastError says which and what to
 *                              do. Nothing is guessed from it.
 * @retval pcclInternalError    The journal cannot be written where it is named; pcclGetLastError has the system's reason. */
PCCL_EXPORT pcclResult_t pcclCreateMasterWithConfig(const pcclMasterConfig_t *config, pcclMasterInstance_t **out);
/** The port the master listens on, also where it was asked for port 0. */
PCCL_EXPORT pcclResult_t pcclMasterGetPort(const pcclMasterInstance_t *master_instance, uint16_t *port_out);

/** Starts serving on a thread of its own and returns. @retval pcclInvalidUsage Already running. */
PCCL_EXPORT pcclResult_t pcclRunMaster(pcclMasterInstance_t *master_instance);
/** Asks the master to end; peers see their connection close. Does not block. @retval pcclInvalidUsage Not running. */
PCCL_EXPORT pcclResult_t pcclInterruptMaster(pcclMasterInstance_t *master_instance);
/** Blocks until the master has ended. @retval pcclInvalidUsage Never started. */
PCCL_EXPORT pcclResult_t pcclMasterAwaitTermination(pcclMasterInstance_t *master_instance);
/** Ends the master if it still runs, and frees it. */
PCCL_EXPORT pcclResult_t pcclDestroyMaster(pcclMasterInstance_t *master_instance);

#ifdef __cplusplus
}
#endif

#include <pccl/collectives.h>

#endif
