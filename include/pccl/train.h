/* Training with little communication, on top of pccl.h: DiLoCo and related methods.
 *
 * Each peer trains a copy of the model on its own data, with any *inner* optimizer. Every `sync_every` inner steps the peers
 * average how far they have moved (the *pseudo-gradient*, start minus end), and all of them make the same step of an *outer*
 * optimizer with it. A trainer holds the outer state: the outer parameters, their momentum and the step number. The outer state
 * is bit-identical at all peers. Peers may join and leave at any time. A lost peer costs a repeated all-reduce, and a newcomer
 * receives the outer state.
 *
 *     pcclTrainerConfig_t config;
 *     pcclTrainerConfigInit(&config, pcclMethodDiLoCo);
 *     config.sync_every = 100;
 *     pcclTrainer_t *trainer = NULL;
 *     pcclCreateTrainer(&config, communicator, parameters, parameter_count, &trainer);
 *     pcclTrainerJoin(trainer);                 // connects; on return the parameters are those of the run
 *     pcclTrainerStatus_t status;
 *     pcclTrainerStatusInit(&status);
 *     for (int step = 0; step < steps; ++step) {
 *         inner_step(parameters);
 *         if (pcclTrainerStep(trainer, &status) != pcclSuccess) break;
 *     }
 *     pcclTrainerFinish(trainer, &status);
 *     pcclDestroyTrainer(trainer);
 *
 * Ownership: from pcclTrainerJoin to pcclTrainerFinish the trainer uses the communicator. The program may only call all-reduces
 * with tags below 2^63, pcclAbort and pcclGetAttribute on it.
 *
 * Threads: one thread at a time uses a trainer. pcclTrainerInterrupt may be called from any thread.
 *
 * Every peer of the group must pass the same configuration and the same tensors. A peer that does not is refused when it joins.
 */
#ifndef PCCL_TRAIN_H
#define PCCL_TRAIN_H

#include <pccl/exchange.h>
#include <pccl/pccl.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The method that combines the models of the peers. */
typedef enum pcclMethod_t {
    /** The models are not combined. For comparison, and to use the other functions of a trainer on one machine. */
    pcclMethodLocal = 0,
    /** Every `sync_every` steps; the outer step waits for the average. Source: Douillard et al. 2023, alg. 1. */
    pcclMethodDiLoCo = 1,
    /** As pcclMethodDiLoCo, but the average is applied one outer step later. It is transferred while the next inner steps are
     * trained, so communication takes no training time. Needs a smaller outer learning rate and momentum. */
    pcclMethodAsyncDiLoCo = 2,
    /** As pcclMethodAsyncDiLoCo, but each peer already uses its own newest contribution. Source: Kale et al. 2025. Here the
     * shared state is kept apart from a peer's own contribution, so that it remains identical. */
    pcclMethodEagerDiLoCo = 3,
    /** One fragment of the model at a time, each every `sync_every` steps. Source: Douillard et al. 2025, alg. 2. */
    pcclMethodStreamingDiLoCo = 4,
    /** One outer step late, with a penalty for staleness and clipped momentum. Source: Sun et al. 2024. */
    pcclMethodCO2 = 5,
    /** Without a global average: each peer pushes its model to its neighbours in a graph, mixes received models into its own, and
     * restores the variance of the result. The peers' models differ. Source: after Duan et al. 2024. */
    pcclMethodGossip = 6,
    /** Gossip that conserves the sum of all models: each peer gives away shares of its model and of a weight, and uses their
     * quotient. Source: Assran et al. 2019, alg. 1. */
    pcclMethodPushSum = 7
} pcclMethod_t;

/** The step of the outer optimizer with averaged pseudo-gradient g, learning rate h and momentum u. v is zero at first. Computed
 * in float32, each operation rounded separately, so that all peers get the same bits on every processor. */
typedef enum pcclOuterOptimizer_t {
    pcclOuterSgd = 0,       /**< p -= h g */
    pcclOuterHeavyBall = 1, /**< v = u v + g; p -= h v */
    pcclOuterNesterov = 2   /**< v = u v + g; p -= h (g + u v) */
} pcclOuterOptimizer_t;

/** The state that a newcomer receives if an average is in flight when it is admitted (pcclMethodAsyncDiLoCo,
 * pcclMethodEagerDiLoCo, pcclMethodCO2). */
typedef enum pcclNewcomers_t {
    /** The members wait for the average and apply it at once. The next outer step then has nothing to apply. */
    pcclNewcomersDrain = 0,
    /** The members wait for the average and send it to the newcomer with the outer state. This sends one more model, and no outer
     * step is without an update. */
    pcclNewcomersSharePending = 1,
    /** The newcomer receives the outer parameters at once, and again after its first round, when the members have applied the
     * average. Programs for version 1 of PCCL do this by hand. */
    pcclNewcomersResync = 2
} pcclNewcomers_t;

/** How pcclMethodStreamingDiLoCo divides the model into fragments. */
typedef enum pcclFragments_t {
    pcclFragmentsStrided = 0,    /**< tensor i belongs to fragment i mod n */
    pcclFragmentsSequential = 1, /**< consecutive tensors with about the same number of elements */
    pcclFragmentsEven = 2        /**< consecutive elements, the same number in each; tensors are cut where necessary */
} pcclFragments_t;

/** The divisor of a stale average in pcclMethodCO2. */
typedef enum pcclStalenessPenalty_t {
    pcclPenaltyNone = 0,     /**< 1 */
    pcclPenaltyConstant = 1, /**< `penalty` */
    /** 1 + (distance that the outer parameters have moved since the average began) / (distance that they usually move); about 2
     * in steady state. Uses shared values only. Source: after Barkai et al. 2020. */
    pcclPenaltyGapAware = 2
} pcclStalenessPenalty_t;

/** The neighbours to which a peer pushes in a round (pcclMethodGossip, pcclMethodPushSum). */
typedef enum pcclPartners_t {
    pcclPartnersAll = 0, /**< all neighbours */
    pcclPartnersOne = 1, /**< one neighbour, chosen at random */
    /** One neighbour, each in turn. With pcclGraphExponential every peer then receives one model per round. */
    pcclPartnersNext = 2
} pcclPartners_t;

/** The time at which a peer mixes received models into its own. */
typedef enum pcclMerge_t {
    pcclMergeAvailable = 0, /**< at the end of each round, the models that have arrived; never waits */
    /** When as many models have arrived as the peer has neighbours (partners, if it pushes to one of them). Never waits. */
    pcclMergeAfterAll = 1,
    /** Each round waits for as many models of the same round as the peer has pushed. It waits at most `exchange_wait_ms`, and
     * stops when the neighbours change. The rounds are then those of synchronous gossip. */
    pcclMergeSynchronous = 2
} pcclMerge_t;

/** The variance that a tensor gets after models were averaged. The average of k independent models has 1/k of their variance,
 * which makes signals fade from layer to layer. The average of models that agree has their variance, and no correction changes
 * it. */
typedef enum pcclVariance_t {
    pcclVarianceOfReceived = 0, /**< the mean of the variances of the received models */
    pcclVarianceOfOwn = 1,      /**< the variance of this peer's model before the mix */
    pcclVarianceWeighted = 2,   /**< the mean of both, with the weights of the models */
    pcclVarianceNone = 3        /**< no correction: the average as it is */
} pcclVariance_t;

/** The action on a round in which a peer's contribution contains an infinity or a NaN. */
typedef enum pcclNonFinite_t {
    /** The contribution is left out, and all peers get the average of the others. A peer whose contributions were all left out in
     * three consecutive rounds receives the run's state from the others. */
    pcclNonFiniteLeaveOut = 0,
    /** The call fails at all peers with pcclInvalidArgument. pcclGetLastError names the peer and the tensor. The outer state is
     * unchanged. pcclTrainerJoin continues the run. */
    pcclNonFiniteFail = 1
} pcclNonFinite_t;

/** Brings the processes of an *island* to one decision. The program implements it.
 *
 * An island is several processes that train one copy of the model together. Each has a trainer for its part of every tensor, in a
 * peer group with the same parts of the other copies (see pcclCommConfig_t::island). The processes must decide identically which
 * newcomers to admit and whether to wait, because each needs the others between two outer steps. At such points each trainer
 * calls this function, on the thread that is inside a call of the trainer. All processes of an island meet in it, and call it in
 * the same order.
 *
 * @param[in]     context   `agree_context` of the configuration.
 * @param[in]     question  Identifies the decision. If the processes pass different questions and none has value 0, their
 * programs have diverged: return an error.
 * @param[in,out] value     Set it to the smallest value that any process passes. 0 means that the call of a process has failed or
 * will fail at all processes.
 * @return pcclSuccess, or an error if the island no longer exists. The trainer's call then fails with this code and with the text
 * that was passed to pcclSetLastError. The function is not called again, and the communicator should leave the run soon. */
typedef pcclResult_t (*pcclIslandConsensus_t)(void *context, uint32_t question, uint64_t *value);

/** All settings of a trainer. Set the defaults with pcclTrainerConfigInit, then change fields. */
typedef struct pcclTrainerConfig_t {
    size_t struct_size;  /**< sizeof(pcclTrainerConfig_t), set by pcclTrainerConfigInit */
    pcclMethod_t method; /**< set by pcclTrainerConfigInit */
    uint32_t sync_every; /**< inner steps per outer step (of a fragment), at least 1; default 100, gossip and push-sum: 10 */
    /** Default pcclOuterNesterov; asynchronous: pcclOuterSgd; CO2: pcclOuterHeavyBall. */
    pcclOuterOptimizer_t outer_optimizer;
    float outer_learning_rate; /**< default 0.7; streaming: 0.4; CO2: 1 */
    float outer_momentum;      /**< default 0.9 with Nesterov; asynchronous: 0; CO2: 0.2 */
    pcclNewcomers_t newcomers; /**< default pcclNewcomersDrain */

    pcclFragments_t fragment_pattern; /**< pcclMethodStreamingDiLoCo: how the model is divided */
    /** pcclMethodStreamingDiLoCo: number of fragments. Default 2, at most one per tensor (pcclFragmentsEven: per element). */
    uint32_t fragments;
    /** pcclMethodStreamingDiLoCo: inner steps between a fragment's pseudo-gradient and its outer step. Less than `sync_every`;
     * default 1. */
    uint32_t overlap_steps;
    /** pcclMethodStreamingDiLoCo: weight of a peer's own parameters in the merge, 0 to 1; default 0.5. With 0 the inner steps
     * made during `overlap_steps` are lost. */
    float mixing;

    pcclStalenessPenalty_t penalty_mode; /**< pcclMethodCO2: default pcclPenaltyGapAware */
    float penalty;                       /**< pcclPenaltyConstant: at least 1; default 1 */
    float clip_momentum;                 /**< bound on the magnitude of each element of the outer momentum; 0: none */

    /** Contributions are weighted by pcclTrainerAddWeight (by default: by the inner steps made) instead of equally. For peers
     * that make fewer steps than others. Source: token-weighted averaging, McMahan et al. 2017, alg. 1. */
    bool weighted;
    /** A round ends after this time, even before `sync_every` steps. Needs `weighted`. 0: never. */
    uint32_t round_ms;

    pcclQuantizationOptions_t quantization; /**< of averages on the wire; zeroed: none */
    /** The options of averages. Copied. NULL: the defaults. pcclLossPolicyRepair cannot be combined with `weighted`: a
     * repaired sum does not show which contributions are missing. */
    const pcclReduceOptions_t *reduce;

    uint32_t min_peers; /**< a round begins when the group has this many peers; default 1 */
    /** Time for which a peer that fell out of the run tries to join it again; default 600000; 0: it does not try. */
    uint32_t rejoin_ms;
    /** Number of outer steps after which peers compare their outer states. A peer whose state differs receives that of the
     * others. Default 1 (two 8-byte reductions during the average); 0: never. */
    uint32_t verify_every;
    bool optimize_topology; /**< measure paths and choose a new ring whenever peers have joined */
    /** Keeps the outer state in this file, mapped to memory. NULL: in memory. The file is overwritten and is not a checkpoint;
     * see pcclTrainerSave. */
    const char *state_file;
    /** Keeps the outer state in this buffer of pcclTrainerStateBytes bytes, aligned to 64. NULL: the trainer allocates it. Owned
     * by the caller; must stay valid until pcclDestroyTrainer. */
    void *state_buffer;
    size_t state_buffer_bytes; /**< size of `state_buffer` */

    /** Each peer keeps 1/N of the outer momentum and computes that part of the outer step: reduce-scatter, step, all-gather.
     * Sends as many bytes as an average. When peers join or leave, the momentum is divided again, which takes one more
     * all-reduce; the part of a lost peer restarts at zero. Checkpoints do not contain the momentum. For pcclMethodDiLoCo,
     * pcclMethodAsyncDiLoCo and pcclMethodCO2. Source: Rajbhandari et al. 2020 (ZeRO), sec. 5. */
    bool sharded;
    /** pcclMethodGossip: default pcclGraphRandomRegular. pcclMethodPushSum: default pcclGraphExponential. */
    pcclGraphKind_t graph;
    uint32_t graph_degree;   /**< as in pcclGraphOptions_t, for graphs that have a degree; default 4 */
    uint64_t graph_seed;     /**< as in pcclGraphOptions_t */
    pcclPartners_t partners; /**< gossip: default pcclPartnersAll; push-sum: default pcclPartnersNext */
    pcclMerge_t merge;       /**< gossip and push-sum: default pcclMergeAvailable */
    /** A model that is not delivered after this time is not delivered at all; default 10000. */
    uint32_t exchange_wait_ms;
    /** pcclMethodGossip: weight of a peer's own model in the mix, 0 to 1; default 0.5. */
    float own_weight;
    pcclVariance_t variance; /**< pcclMethodGossip: default pcclVarianceOfReceived */
    /** pcclMethodGossip: tensors that keep the variance of the average, as names separated by commas. A '*' at the beginning or
     * end of a name stands for any characters ("*.bias,norm*"). Copied. Tensors of one element and constant tensors always keep
     * it. NULL: no others. */
    const char *uncorrected;
    /** pcclMethodGossip: models are weighted by the number of inner steps that they contain, instead of by `own_weight`. */
    bool weigh_by_age;
    /** For the processes of an island. NULL: this process trains a whole copy of the model. Cannot be combined with gossip,
     * push-sum or `round_ms`. */
    pcclIslandConsensus_t island_consensus;
    void *agree_context; /**< passed to `island_consensus` */
    /** Default pcclNonFiniteLeaveOut. With pcclMethodGossip and pcclMethodPushSum, pcclNonFiniteFail makes only the call of the
     * peer fail whose model is not finite. */
    pcclNonFinite_t non_finite;
} pcclTrainerConfig_t;

/** The state of a trainer. `events` reports what happened in the last call. */
typedef struct pcclTrainerStatus_t {
    size_t struct_size;  /**< sizeof(pcclTrainerStatus_t), set by pcclTrainerStatusInit */
    uint32_t events;     /**< PCCL_TRAINER_* flags of the last call */
    uint32_t world_size; /**< peers of the group */
    /** Peers in the last average that arrived. Methods that are one round late have not applied it yet. 0 before the first
     * average. */
    uint32_t contributors;
    uint64_t outer_steps;   /**< outer steps of the run (streaming: of all its fragments together) */
    uint64_t inner_steps;   /**< inner steps of the run; learning rate schedules should use this number */
    uint64_t tx_bytes;      /**< bytes that this trainer has sent since it was created: averages and shared state */
    uint64_t rx_bytes;      /**< bytes that this trainer has received since it was created */
    double communicating_s; /**< time during which averages were in flight, in seconds */
    double blocked_s;       /**< time that the caller's thread waited for communication of any kind, in seconds */
    /** Hash of the outer state at the start of the last average; equal at all peers. After pcclTrainerFinish: of the final outer
     * state. */
    uint64_t digest;
    double penalty; /**< pcclMethodCO2: the last divisor */
    /** pcclMethodPushSum: this peer's weight. The average over all peers and all models in flight is 1. */
    double push_weight;
    uint64_t models_sent; /**< gossip and push-sum: models that were delivered to neighbours */
    /** Models that were not delivered because the receiver was lost or slow. Push-sum has added them back. */
    uint64_t models_undelivered;
    uint64_t models_received; /**< models that were merged or will be */
    uint64_t models_refused;  /**< received models of another size or with a non-finite value: their sender has diverged */
    /** Rounds in which a non-finite contribution was left out, or whose non-finite average was not applied. Gossip and push-sum:
     * the number of non-finite models of this peer and its neighbours. */
    uint64_t non_finite_rounds;
    /** The peer that was left out in the last such round, as the number that logs show; the largest number if there were several.
     * 0 before the first such round, and if only the average was not finite. */
    uint64_t non_finite_peer;
    /** Index of the first parameter of that peer that was not finite. SIZE_MAX before the first such round, and if the weight was
     * not finite. */
    size_t non_finite_tensor;
    bool left_out; /**< the last contribution of this peer was left out */
} pcclTrainerStatus_t;

#define PCCL_TRAINER_OUTER_STEP 1U     /**< the outer parameters have changed */
#define PCCL_TRAINER_WORLD_GREW 2U     /**< peers have joined the group */
#define PCCL_TRAINER_WORLD_SHRANK 4U   /**< peers have left the group or were lost */
#define PCCL_TRAINER_STATE_RECEIVED 8U /**< the outer state came from other peers; the parameters are new */
#define PCCL_TRAINER_REJOINED 16U      /**< this peer had fallen out of the run and has joined it again */
/** Outer states differed and were made equal again. The cause is a memory error or the program. */
#define PCCL_TRAINER_DIVERGED 32U
/** A non-finite contribution was left out, or a non-finite average was not applied. See `non_finite_rounds` and the fields after
 * it. */
#define PCCL_TRAINER_NON_FINITE 64U

/** An opaque handle. Owned by the caller from pcclCreateTrainer to pcclDestroyTrainer. */
typedef struct pcclTrainer_t pcclTrainer_t;

/** Sets every field to the default for `method`. The macro pcclTrainerConfigInit passes the size of the caller's structure.
 * @retval pcclInvalidArgument  `config` is NULL or `method` is unknown. */
PCCL_EXPORT pcclResult_t pcclTrainerConfigInitSized(pcclTrainerConfig_t *config, size_t struct_size, pcclMethod_t method);
#define pcclTrainerConfigInit(config, method) pcclTrainerConfigInitSized((config), sizeof(pcclTrainerConfig_t), (method))
/** Sets every field to zero except `struct_size`. The macro pcclTrainerStatusInit passes the size of the caller's structure.
 * @retval pcclInvalidArgument  `status` is NULL. */
PCCL_EXPORT pcclResult_t pcclTrainerStatusInitSized(pcclTrainerStatus_t *status, size_t struct_size);
#define pcclTrainerStatusInit(status) pcclTrainerStatusInitSized((status), sizeof(pcclTrainerStatus_t))

/** Returns the size that `state_buffer` needs for this configuration and these parameters.
 * @param[out] bytes_out  Size in bytes. */
PCCL_EXPORT pcclResult_t pcclTrainerStateBytes(const pcclTrainerConfig_t *config, const pcclTensorInfo_t *parameters,
                                               size_t count, size_t *bytes_out);

/** Creates a trainer. Does not communicate.
 *
 * @param[in]  config       Copied.
 * @param[in]  comm         Connected or not. Must stay valid until pcclTrainerFinish has succeeded or the trainer is destroyed.
 * @param[in]  parameters   `count` tensors on the CPU, of type pcclFloat, pcclFloat16 or pcclBFloat16, with distinct names. They
 * must not overlap; pass a tied weight once. The descriptions are copied. The caller owns the data and must not move it (except
 * with pcclTrainerRelocate). The trainer reads and writes the data only during its calls.
 * @param[out] trainer_out  Owned by the caller, who passes it to pcclDestroyTrainer.
 * @retval pcclInvalidArgument  A setting or a tensor is invalid; pcclGetLastError names it. */
PCCL_EXPORT pcclResult_t pcclCreateTrainer(const pcclTrainerConfig_t *config, pcclComm_t *comm,
                                           const pcclTensorInfo_t *parameters, size_t count, pcclTrainer_t **trainer_out);

/** Frees a trainer. An average in flight is aborted at all peers. They repeat it, without this peer if it also leaves the run.
 * The communicator remains connected. */
PCCL_EXPORT pcclResult_t pcclDestroyTrainer(pcclTrainer_t *trainer);

/** Adds tensors that newcomers receive and that are compared when peers join: counters, buffers of normalization layers, a
 * position in the data. Any type. The trainer changes them only to give a newcomer the content of the run. Only before
 * pcclTrainerJoin.
 *
 * Without `allow_content_inequality` the content is compared, by hash, whenever a peer joins. With it, members may differ after
 * they have joined. A newcomer then receives the content of one member, and the first peers of a run begin with the content of
 * one of them. */
PCCL_EXPORT pcclResult_t pcclTrainerShare(pcclTrainer_t *trainer, const pcclTensorInfo_t *tensors, size_t count);

/** Replaces the description of the model that peers compare when they join. The default is one line per parameter, with its name,
 * number of elements and type. A program can describe more: shapes, the order of layers, which layers are frozen, a hash of
 * frozen layers. A peer with a different line is refused, and pcclGetLastError shows the first different line of both sides.
 * Names, numbers of elements and order of the parameters are compared in any case. Only before pcclTrainerJoin.
 *
 * @param[in] lines  `count` texts, copied. Errors show the first 900 bytes of a text, and texts within the first 4 MiB. */
PCCL_EXPORT pcclResult_t pcclTrainerDescribe(pcclTrainer_t *trainer, const char *const *lines, size_t count);

/** Sets a new address for a tensor. `name` is that of a parameter or of a shared tensor; number of elements and type stay the
 * same. Must be called between two calls of the trainer. Afterwards the trainer does not access the old address.
 * @retval pcclInvalidArgument  No tensor has this name, or `data` is NULL. */
PCCL_EXPORT pcclResult_t pcclTrainerRelocate(pcclTrainer_t *trainer, const char *name, void *data);

/** Joins the run. Connects the communicator if it is not connected, waits until the members admit this peer and the group has
 * `min_peers` peers, and receives the outer state of the run. The members admit a newcomer at one of their next outer steps, at
 * the latest at the third. On return the parameters are the outer parameters. Blocks.
 *
 * The first peers of a run bring their own parameters and shared tensors. If these differ, the version held by the most peers
 * wins. A run ends when its last member leaves. A peer that is still waiting then begins a new run, with `inner_steps` 0 in its
 * status. A peer that was started to replace a lost one should check `inner_steps`, or load the run's last checkpoint first. With
 * `min_peers` of 2 or more it does not train alone. A peer whose parameters are not finite can receive the run's state, but never
 * provides its own.
 *
 * @retval pcclMasterConnectionFailed  The master was not reachable within `rejoin_ms`, or the connection was lost. Call again.
 * @retval pcclInvalidUsage            This trainer has joined already; or the peers' settings or tensors differ. pcclGetLastError
 * names the first difference, with both values.
 * @retval pcclInvalidArgument         No member has finite parameters. pcclGetLastError names the first tensor of this peer that
 * is not finite.
 * @retval pcclRankConnectionLost      pcclTrainerInterrupt was called. */
PCCL_EXPORT pcclResult_t pcclTrainerJoin(pcclTrainer_t *trainer);

/** Counts an inner step and does what the method requires at this step, which is usually nothing. The program calls it after each
 * inner step. Blocks while an outer step waits for other peers.
 *
 * On success the parameters may have changed; continue with them. The trainer handles lost peers, newcomers, a restarted master,
 * and falling out of the run.
 *
 * @param[out] status  NULL if not wanted. Filled in after a failure as well.
 * @retval pcclMasterConnectionFailed  This peer fell out of the run and could not join it again within `rejoin_ms`. The outer
 * state is that of the last outer step. Call pcclTrainerJoin when the master is available again. With `island_consensus` a
 * process does not join again by itself: this code means that the whole island is out, for example because another of its
 * processes was lost.
 * @retval pcclRankConnectionLost      pcclTrainerInterrupt was called. This peer is then no longer in step with the others.
 * Leave, or call pcclTrainerJoin.
 * @retval pcclInvalidArgument         With pcclNonFiniteFail: a contribution or the average was not finite.
 * @retval pcclInvalidUsage            Not joined, or the peers' programs differ; pcclGetLastError names the difference.
 *
 * Except at steps at which there is nothing to do, the call succeeds at all processes of an island or at none. */
PCCL_EXPORT pcclResult_t pcclTrainerStep(pcclTrainer_t *trainer, pcclTrainerStatus_t *status);

/** Returns whether the next pcclTrainerStep may read and write the parameters. If not, it only counts. For programs that keep the
 * parameters elsewhere (on a GPU) and copy them. With `round_ms` the answer is always true, because time decides.
 * @param[out] due_out  The answer. */
PCCL_EXPORT pcclResult_t pcclTrainerIsDue(const pcclTrainer_t *trainer, bool *due_out);

/** Adds to the weight of this peer's next contribution, for example the number of tokens of the last inner step. Used with
 * `weighted`. A peer that never calls it has weight 1 per step.
 * @retval pcclInvalidArgument  `weight` is negative, infinite or NaN. */
PCCL_EXPORT pcclResult_t pcclTrainerAddWeight(pcclTrainer_t *trainer, double weight);

/** As pcclTrainerStep, but ends the round after the steps made so far: this peer goes to the next outer step at once. Needs
 * `weighted`. Every peer must still end each round once. */
PCCL_EXPORT pcclResult_t pcclTrainerEndRound(pcclTrainer_t *trainer, pcclTrainerStatus_t *status);

/** Ends training: waits for averages in flight, applies them, and sets the parameters to the outer parameters. All peers that
 * finish at the same step then have the same parameters. Blocks.
 *
 * The peer remains a member of the run but makes no more outer steps, so the others wait for it at their next one. Destroy the
 * communicator at once. After success the communicator may be destroyed before the trainer. The trainer then still provides its
 * status, its outer parameters and pcclTrainerSave.
 * @param[out] status  NULL if not wanted. */
PCCL_EXPORT pcclResult_t pcclTrainerFinish(pcclTrainer_t *trainer, pcclTrainerStatus_t *status);

/** Makes the blocked call of this trainer, or the next call that would block, return pcclRankConnectionLost. Any thread. Not safe
 * inside a signal handler. */
PCCL_EXPORT pcclResult_t pcclTrainerInterrupt(pcclTrainer_t *trainer);

/** Returns the status. Does not communicate.
 * @param[out] status  Initialized with pcclTrainerStatusInit. */
PCCL_EXPORT pcclResult_t pcclTrainerGetStatus(const pcclTrainer_t *trainer, pcclTrainerStatus_t *status);

/** Copies the outer parameters of tensor `index`. They are the parameters to evaluate and to save.
 * @param[out] out  Room for `parameters[index].count` floats. */
PCCL_EXPORT pcclResult_t pcclTrainerGetOuterParameters(const pcclTrainer_t *trainer, size_t index, float *out);

/** Writes the outer state to a file. It writes a second file in the same directory and renames it, so that a crash leaves the old
 * file or the new one. An average in flight is not included.
 * @retval pcclInternalError  The file cannot be written; pcclGetLastError has the system's reason. */
PCCL_EXPORT pcclResult_t pcclTrainerSave(const pcclTrainer_t *trainer, const char *path);
/** Reads a file that pcclTrainerSave wrote for the same tensors, with any method and settings. Sets the parameters as well. Only
 * before pcclTrainerJoin. If the run already has members, pcclTrainerJoin then replaces the loaded state by that of the run.
 * @retval pcclInvalidArgument  The file does not exist, is damaged, or belongs to other tensors. Nothing was changed. */
PCCL_EXPORT pcclResult_t pcclTrainerLoad(pcclTrainer_t *trainer, const char *path);

#ifdef __cplusplus
}
#endif

#endif
