/* Training with little communication, on top of pccl.h: DiLoCo and the methods that grew from it.
 *
 * Each peer trains a copy of the model alone, on its own data, with any optimizer (the *inner* one). Every `sync_every` steps the peers
 * average how far they have moved (the *pseudo-gradient*, start minus end), and all make the same step of an *outer* optimizer with it.
 * A trainer holds the outer state, which is bit-identical at all peers: the outer parameters, their momentum, the step. Peers may come
 * and go at any time: a loss costs a repeated all-reduce, and who joins is handed the outer state.
 *
 *     pcclTrainerConfig_t config;
 *     pcclTrainerConfigInit(&config, pcclMethodDiLoCo);
 *     config.sync_every = 100;
 *     pcclTrainer_t *trainer = NULL;
 *     pcclCreateTrainer(&config, communicator, parameters, parameter_count, &trainer);
 *     pcclTrainerJoin(trainer);                                 // connects; on return the parameters are the run's
 *     for (...) {
 *         inner_step(parameters);
 *         if (pcclTrainerStep(trainer, &status) != pcclSuccess) break;
 *     }
 *     pcclTrainerFinish(trainer);
 *     pcclDestroyTrainer(trainer);
 *
 * While a trainer has joined, its communicator is the trainer's: no other call on it but all-reduces with tags below 2^63, pcclAbort
 * and pcclGetAttribute. One thread at a time uses a trainer, but for pcclTrainerInterrupt. Every peer of the group gives the same
 * configuration and the same tensors; one that does not is refused when it joins. */
#ifndef PCCL_TRAIN_H
#define PCCL_TRAIN_H

#include <pccl/exchange.h>
#include <pccl/pccl.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How peers that train alone are brought together. */
typedef enum pcclMethod_t {
    pcclMethodLocal = 0,  /**< not at all: for comparison, and to use the rest of a trainer on one machine */
    pcclMethodDiLoCo = 1, /**< every `sync_every` steps; the step waits for the average. Douillard et al. 2023, alg. 1 */
    pcclMethodAsyncDiLoCo = 2,     /**< the same, one outer step late: averages travel while the next steps are trained, so that
                                        communication costs no time; outer learning rate and momentum must be smaller for it */
    pcclMethodEagerDiLoCo = 3,     /**< as pcclMethodAsyncDiLoCo, but each peer already works with its own newest contribution. Kale et al.
                                        2025, with the shared state kept apart from what is a peer's own, so that it stays identical */
    pcclMethodStreamingDiLoCo = 4, /**< one fragment of the model at a time, each every `sync_every` steps. Douillard et al. 2025, alg. 2 */
    pcclMethodCO2 = 5,             /**< one outer step late, with a penalty for staleness and clipped momentum. Sun et al. 2024 */
    pcclMethodGossip = 6,          /**< no average of all: each peer pushes its model to its neighbours in a graph, and mixes those that have come
                                        into its own, whose variance it restores. Peers' models differ. After Duan et al. 2024 */
    pcclMethodPushSum = 7          /**< gossip that conserves the sum of all models: each peer gives shares of its model and of a weight away, and
                                        works with their quotient. Assran et al. 2019, alg. 1 */
} pcclMethod_t;

/** The step of the outer optimizer with averaged pseudo-gradient g, learning rate h, momentum u; v is zero at first. In float32, each
 * operation rounded by itself, so that all peers get the same bits on every processor. */
typedef enum pcclOuterOptimizer_t {
    pcclOuterSgd = 0,       /**< p -= h g */
    pcclOuterHeavyBall = 1, /**< v = u v + g; p -= h v */
    pcclOuterNesterov = 2   /**< v = u v + g; p -= h (g + u v) */
} pcclOuterOptimizer_t;

/** What a newcomer is given where an average is under way at its admission (pcclMethodAsyncDiLoCo, Eager, CO2). */
typedef enum pcclNewcomers_t {
    pcclNewcomersDrain = 0,        /**< the members wait for it and apply it at once; the next outer step has nothing to apply */
    pcclNewcomersSharePending = 1, /**< the members wait for it, and it is part of what the newcomer is given: one model more to send, and
                                        no outer step without an update */
    pcclNewcomersResync = 2     /**< the newcomer gets the outer parameters at once and again after its first round, when the members
                                        have applied it: what programs for version 1 of PCCL do by hand */
} pcclNewcomers_t;

/** How pcclMethodStreamingDiLoCo cuts the model. */
typedef enum pcclFragments_t {
    pcclFragmentsStrided = 0,    /**< tensor i belongs to fragment i mod n */
    pcclFragmentsSequential = 1, /**< runs of neighbouring tensors, of about the same number of elements */
    pcclFragmentsEven = 2        /**< runs of elements, tensors cut where need be */
} pcclFragments_t;

/** The divisor of a stale average in pcclMethodCO2. */
typedef enum pcclStalenessPenalty_t {
    pcclPenaltyNone = 0,
    pcclPenaltyConstant = 1, /**< `penalty` */
    pcclPenaltyGapAware = 2  /**< 1 + how far the outer parameters moved since, by how far they usually move: about 2 in steady state. From
                                  shared quantities alone. After Barkai et al. 2020 */
} pcclStalenessPenalty_t;

/** To whom a peer pushes in a round (pcclMethodGossip, pcclMethodPushSum). */
typedef enum pcclPartners_t {
    pcclPartnersAll = 0, /**< all its neighbours */
    pcclPartnersOne = 1, /**< one of them, by chance */
    pcclPartnersNext = 2 /**< one of them, each in turn: with pcclGraphExponential everyone gets one model per round */
} pcclPartners_t;

/** When a peer mixes models that have come into its own. */
typedef enum pcclMerge_t {
    pcclMergeAvailable = 0, /**< at the end of each round, what is there; nothing is waited for */
    pcclMergeAfterAll = 1,    /**< when as many have come as it has neighbours (partners, if it pushes to one); nothing is waited for */
    pcclMergeSynchronous = 2     /**< each round waits for the models of the same round: as many as it pushed, `exchange_wait_ms` at most, and no longer
                               when neighbours change. Rounds are then those of synchronous gossip */
} pcclMerge_t;

/** What variance a tensor is given after models were averaged. The average of k models that have little to do with one another has 1/k of
 * theirs, with which signals die out from layer to layer; that of models that agree has their own, and nothing is changed. */
typedef enum pcclVariance_t {
    pcclVarianceOfReceived = 0, /**< the mean of the variances of those that came */
    pcclVarianceOfOwn = 1,   /**< that of its own before */
    pcclVarianceWeighted = 2, /**< both, weighed as the models are */
    pcclVarianceNone = 3    /**< none: the average as it is */
} pcclVariance_t;

/** What becomes of a round to which a peer would contribute an infinity or a NaN. */
typedef enum pcclNonFinite_t {
    pcclNonFiniteLeaveOut = 0, /**< the round is made without this contribution: all peers get the average of the others. A peer all of whose
                                    contributions were left out in three rounds in a row is given the run's state by the others */
    pcclNonFiniteFail = 1      /**< the call fails at all peers with pcclInvalidArgument. pcclGetLastError names the peer and the tensor. No outer
                                    state changes; pcclTrainerJoin takes the run up again */
} pcclNonFinite_t;

/** Where several processes train one copy of the model together (an *island*), each has a trainer of its part of every tensor, in a peer group
 * with the same parts of the others' copies (pcclCommConfig_t::island). Whom to admit and whether to wait they must decide alike, since
 * each needs the others between two outer steps. So at such points each trainer calls this, on the thread that is in one of its calls:
 * the processes of an island meet there, all in the same order.
 *
 * @param[in]     question  What is asked. Where the processes ask different things and none gives 0 their programs have parted: a failure.
 * @param[in,out] value     Is replaced by the smallest that any of them gives. 0: the call of a process has failed, or is about to at all.
 * @return What is not pcclSuccess says that the island is no more: the call fails with it, and with the words given to pcclSetLastError.
 *         It is not called again, and the communicator should leave the run soon. */
typedef pcclResult_t (*pcclIslandConsensus_t)(void *context, uint32_t question, uint64_t *value);

/** Everything about a trainer. Set defaults with pcclTrainerConfigInit, then change fields. */
typedef struct pcclTrainerConfig_t {
    size_t struct_size; /**< sizeof(pcclTrainerConfig_t), set by pcclTrainerConfigInit */
    pcclMethod_t method;
    uint32_t sync_every; /**< inner steps per outer step (of a fragment), at least 1; default 100 */
    pcclOuterOptimizer_t outer_optimizer;
    float outer_learning_rate; /**< default 0.7 (streaming: 0.4; CO2: 1) */
    float outer_momentum;      /**< default 0.9 with Nesterov; asynchronous: 0 with SGD; CO2: 0.2 with heavy ball */
    pcclNewcomers_t newcomers;

    pcclFragments_t fragment_pattern;
    uint32_t fragments;      /**< with pcclMethodStreamingDiLoCo: default 2, at most one per tensor (pcclFragmentsEven: per element) */
    uint32_t overlap_steps;  /**< inner steps between a fragment's pseudo-gradient and its outer step, below `sync_every`; default 1 */
    float mixing;            /**< weight of a peer's own parameters in the merge, 0 to 1; default 0.5. 0: those of `overlap_steps` are lost */

    pcclStalenessPenalty_t penalty_mode;
    float penalty;       /**< with pcclPenaltyConstant: at least 1; default 1 */
    float clip_momentum; /**< bound on each element of the outer momentum; 0: none */

    bool weighted;       /**< contributions count by the weight of pcclTrainerAddWeight (by default: by the steps made) instead of alike: for
                              peers that make fewer steps than others. Source: token-weighted averaging, McMahan et al. 2017, alg. 1 */
    uint32_t round_ms;   /**< a round ends when this much time has passed, even before `sync_every` steps; needs `weighted`. 0: never */

    pcclQuantizationOptions_t quantization; /**< of averages on the wire; zeroed: none */
    const pcclReduceOptions_t *reduce;      /**< how averages are carried out, copied; NULL: defaults. Not pcclLossPolicyRepair if `weighted`: of a
                                                 sum in which not everybody took part nobody could tell what is missing */

    uint32_t min_peers;        /**< a round begins when the group has so many; default 1 */
    uint32_t rejoin_ms;        /**< a peer that fell out of the run tries to join it again for so long; default 600000; 0: never */
    uint32_t verify_every;     /**< outer steps after which peers compare their outer states; one that differs is given the others'. 0: never;
                                    default 1 (two 8-byte reductions beside the average) */
    bool optimize_topology;    /**< measure paths and choose the ring anew whenever peers have joined */
    const char *state_file;    /**< keep the outer state in this file, mapped to memory, instead of in memory; NULL: in memory. Not a
                                    checkpoint: it is overwritten. For that there is pcclTrainerSave */
    void *state_buffer;        /**< keep it here: pcclTrainerStateBytes bytes, aligned to 64; NULL: the trainer allocates it */
    size_t state_buffer_bytes;

    bool sharded; /**< each peer keeps 1/N of the outer momentum and computes that part of the outer step: reduce-scatter, step, all-gather.
                       As many bytes on the wire as an average. When peers come or go the momentum is divided anew (one more all-reduce), and
                       a lost peer's part of it begins at zero. Checkpoints are without momentum. With pcclMethodDiLoCo, Async and CO2.
                       Source: Rajbhandari et al. 2020 (ZeRO), sec. 5 */
    pcclGraphKind_t graph;     /**< with pcclMethodGossip and PushSum: default pcclGraphRandomRegular; push-sum: pcclGraphExponential */
    uint32_t graph_degree;     /**< as in pcclGraphOptions_t, of graphs that have one; default 4 */
    uint64_t graph_seed;
    pcclPartners_t partners;   /**< default pcclPartnersAll; push-sum: pcclPartnersNext */
    pcclMerge_t merge;
    uint32_t exchange_wait_ms; /**< a model that is not delivered after this is not delivered at all; default 10000 */
    float own_weight;          /**< of a peer's own model in the mix, 0 to 1; default 0.5. pcclMethodGossip, as all below */
    pcclVariance_t variance;
    const char *uncorrected;   /**< tensors that are averaged and keep the average's variance: names, with commas between; a '*' before or
                                    after one stands for any more characters ("*.bias,norm*"). Copied. So are tensors of one element, and
                                    constant ones. NULL: no others */
    bool weigh_by_age;         /**< models count by the inner steps that are in them, instead of by `own_weight` */
    pcclIslandConsensus_t island_consensus;         /**< of an island; NULL: this process trains a copy of the model by itself. Not for gossip, nor with `round_ms` */
    void *agree_context;
    pcclNonFinite_t non_finite; /**< default pcclNonFiniteLeaveOut. With pcclMethodGossip and PushSum pcclNonFiniteFail concerns the call of the
                                     peer whose model is not finite, and no other's */
} pcclTrainerConfig_t;

/** What has become of a trainer and, in `events`, what happened in the last call. */
typedef struct pcclTrainerStatus_t {
    size_t struct_size;     /**< sizeof(pcclTrainerStatus_t), set by pcclTrainerStatusInit */
    uint32_t events;        /**< PCCL_TRAINER_* */
    uint32_t world_size;    /**< peers of the group */
    uint32_t contributors;      /**< peers in the last average that has come; methods one round late have not applied it yet. 0 before the first */
    uint64_t outer_steps;   /**< of the run (streaming: of all its fragments together) */
    uint64_t inner_steps;   /**< of the run: what schedules of learning rates should follow */
    uint64_t tx_bytes;      /**< sent by this trainer since it was created: averages and shared state */
    uint64_t rx_bytes;
    double communicating_s; /**< time in which averages were under way */
    double blocked_s;       /**< time in which the caller's thread waited for communication of any kind */
    uint64_t digest;        /**< of the outer state as the last average began: equal at all peers. After pcclTrainerFinish: of the last */
    double penalty;         /**< with pcclMethodCO2: the last divisor */
    double push_weight;         /**< with pcclMethodPushSum: this peer's weight; 1 on average over all peers and models under way */
    uint64_t models_sent;       /**< with pcclMethodGossip and PushSum: delivered */
    uint64_t models_undelivered; /**< not delivered: the receiver was lost, or slow. Push-sum has taken them back */
    uint64_t models_received;   /**< and merged, or about to be */
    uint64_t models_refused;    /**< of another size, or not finite: the sender has diverged */
    uint64_t non_finite_rounds; /**< rounds in which a contribution was left out because it was not finite, or whose average was not finite and
                                     so not applied. With pcclMethodGossip and PushSum: models of this peer and of its neighbours that were not */
    uint64_t non_finite_peer;   /**< of the last such round: the number by which logs name a peer that was left out (the largest, if several
                                     were). 0 before the first, and where only the average was not finite */
    size_t non_finite_tensor;   /**< the first of its parameters that was not finite. SIZE_MAX before the first, and where the weight was not */
    bool left_out;              /**< the last contribution of this peer was left out */
} pcclTrainerStatus_t;

#define PCCL_TRAINER_OUTER_STEP 1U   /**< the outer parameters have changed */
#define PCCL_TRAINER_WORLD_GREW 2U
#define PCCL_TRAINER_WORLD_SHRANK 4U
#define PCCL_TRAINER_STATE_RECEIVED 8U /**< outer state came from others: the parameters are new */
#define PCCL_TRAINER_REJOINED 16U    /**< this peer had fallen out of the run and is back */
#define PCCL_TRAINER_DIVERGED 32U    /**< outer states differed and were made equal again: a fault of memory, or of the program */
#define PCCL_TRAINER_NON_FINITE 64U  /**< a contribution was not finite and was left out, or an average was not and was not applied: see
                                          `non_finite_rounds` and the fields after it */

/** An opaque handle. Owned by the caller from pcclCreateTrainer to pcclDestroyTrainer. */
typedef struct pcclTrainer_t pcclTrainer_t;

/** Sets every field to the default for `method`. `struct_size` is sizeof(pcclTrainerConfig_t) as the caller's header has it.
 * @retval pcclInvalidArgument `config` is NULL or `method` unknown. */
PCCL_EXPORT pcclResult_t pcclTrainerConfigInitSized(pcclTrainerConfig_t *config, size_t struct_size, pcclMethod_t method);
#define pcclTrainerConfigInit(config, method) pcclTrainerConfigInitSized((config), sizeof(pcclTrainerConfig_t), (method))
/** Zeroes a status but for its size. */
PCCL_EXPORT pcclResult_t pcclTrainerStatusInitSized(pcclTrainerStatus_t *status, size_t struct_size);
#define pcclTrainerStatusInit(status) pcclTrainerStatusInitSized((status), sizeof(pcclTrainerStatus_t))

/** How many bytes `state_buffer` needs. */
PCCL_EXPORT pcclResult_t pcclTrainerStateBytes(const pcclTrainerConfig_t *config, const pcclTensorInfo_t *parameters, size_t count,
                                               size_t *bytes_out);

/** Creates a trainer. No traffic yet.
 *
 * @param[in] config      Copied.
 * @param[in] comm        Outlives the trainer, or its pcclTrainerFinish; connected or not.
 * @param[in] parameters  `count` tensors on the CPU, of pcclFloat, pcclFloat16 or pcclBFloat16, with distinct names and not overlapping (a tied
 *                        weight appears once). The descriptions are copied; the data stays the caller's and must stay where it is (or see
 *                        pcclTrainerRelocate). The trainer reads and writes it in its calls alone, never between them.
 * @retval pcclInvalidArgument  What and why is in pcclGetLastError. */
PCCL_EXPORT pcclResult_t pcclCreateTrainer(const pcclTrainerConfig_t *config, pcclComm_t *comm, const pcclTensorInfo_t *parameters,
                                           size_t count, pcclTrainer_t **trainer_out);

/** Frees a trainer; an average under way is aborted, at all peers, who repeat it without this one if it also leaves. The
 * communicator stays. */
PCCL_EXPORT pcclResult_t pcclDestroyTrainer(pcclTrainer_t *trainer);

/** Adds tensors to what newcomers are given and what is compared when peers join: counters, buffers of normalization layers, a
 * data position. Of any type. The trainer never changes them but to hand them to a newcomer. Before pcclTrainerJoin only.
 * With `allow_content_inequality` members may differ in them once they have joined: a newcomer is given a member's, and the first
 * peers of a run begin with those of one of them. Without it the content is compared, by hash, whenever a peer joins. */
PCCL_EXPORT pcclResult_t pcclTrainerShare(pcclTrainer_t *trainer, const pcclTensorInfo_t *tensors, size_t count);

/** Replaces the description of the tensors that peers compare when they join. By default it is a line per parameter with its name,
 * number of elements and type. A program adds what it knows: shapes, the order of layers, which of them are frozen, a hash of frozen ones.
 * A peer of which a line differs is refused, and pcclGetLastError names the first one, as it is there and in the run. Names, numbers of
 * elements and order of the parameters are compared in any case. Before pcclTrainerJoin only.
 *
 * @param[in] lines  `count` texts, copied. Of a text the first 900 bytes are shown, of all texts the first 4 MiB. */
PCCL_EXPORT pcclResult_t pcclTrainerDescribe(pcclTrainer_t *trainer, const char *const *lines, size_t count);

/** Says that a tensor is at another address from now on: `name` is that of a parameter or of a shared tensor, with the same number of
 * elements and type as before. Between two calls of the trainer. The trainer does not read or write the old address any more.
 * @retval pcclInvalidArgument  There is no tensor of that name, or `data` is NULL. */
PCCL_EXPORT pcclResult_t pcclTrainerRelocate(pcclTrainer_t *trainer, const char *name, void *data);

/** Joins the run: connects the communicator if it is not connected, waits until the members admit this peer (which they do at one of
 * their next outer steps, the third at the latest) and for `min_peers`, and takes the run's outer state over. On return the parameters are
 * the outer parameters.
 * The first peers of a run bring their own parameters and shared tensors: those of the most peers that agree win, in all of it.
 * A run is its members: a peer that still waits when the last of them leaves begins a new run, at `inner_steps` 0 of the status. One that was
 * to take a lost peer's place looks at that (or loads the run's last checkpoint first), and `min_peers` of 2 or more keeps it from
 * training alone.
 * A peer whose parameters (or the checkpoint it loaded) are not finite can take the run's state over, but never gives its own.
 *
 * @retval pcclMasterConnectionFailed  No master there within `rejoin_ms`, or the connection was lost. May be called again.
 * @retval pcclInvalidUsage            The peers' settings or tensors differ: pcclGetLastError names the first that does, with both values.
 *                                     Or joined already.
 * @retval pcclInvalidArgument         No member has finite parameters; pcclGetLastError names the first tensor here that is not.
 * @retval pcclRankConnectionLost      pcclTrainerInterrupt was called. */
PCCL_EXPORT pcclResult_t pcclTrainerJoin(pcclTrainer_t *trainer);

/** To be called after each inner step. Counts it, and does whatever the method has to do at this step: mostly nothing.
 *
 * On success the parameters may have changed: go on with them. Lost peers, newcomers, a restarted master and falling out of the
 * run are dealt with inside.
 *
 * @param[out] status  NULL if not wanted.
 * @retval pcclMasterConnectionFailed  This peer is out of the run and could not get back within `rejoin_ms`. The outer state is that of the last
 *                                     outer step; call pcclTrainerJoin when there is a master again.
 * @retval pcclRankConnectionLost      pcclTrainerInterrupt was called. This peer is then out of step with the others: leave, or call
 *                                     pcclTrainerJoin.
 * @retval pcclInvalidArgument         With pcclNonFiniteFail: a contribution, or the average, was not finite.
 * @retval pcclInvalidUsage            Not joined; or the peers' programs differ (pcclGetLastError says how).
 * With `island_consensus` a process does not come back by itself: pcclMasterConnectionFailed says that the whole island is out, also where another of its
 * processes was lost. It succeeds at all processes of an island or at none, but for the steps at which there is nothing to do. */
PCCL_EXPORT pcclResult_t pcclTrainerStep(pcclTrainer_t *trainer, pcclTrainerStatus_t *status);

/** Whether the trainer may read and write the parameters in the next pcclTrainerStep; else it just counts. For parameters that are elsewhere
 * (on a GPU) and copied to and fro. With `round_ms`: always, since time decides. */
PCCL_EXPORT pcclResult_t pcclTrainerIsDue(const pcclTrainer_t *trainer, bool *due_out);

/** With `weighted`: adds to the weight of this peer's next contribution, say the number of tokens of the step just made. A peer that never
 * calls it weighs 1 per step. @retval pcclInvalidArgument Negative, infinite or not a number. */
PCCL_EXPORT pcclResult_t pcclTrainerAddWeight(pcclTrainer_t *trainer, double weight);

/** As pcclTrainerStep, and ends the round here, with as many steps as it had: this peer goes to the next outer step at once. Needs
 * `weighted`, and every peer still ends each round once. */
PCCL_EXPORT pcclResult_t pcclTrainerEndRound(pcclTrainer_t *trainer, pcclTrainerStatus_t *status);

/** Ends training: waits for averages in flight and applies them; the parameters become the outer parameters. All peers that finish at the
 * same step have the same parameters then. The peer remains a member of the run, makes no outer step any more, and so holds up the
 * others at their next one: destroy the communicator at once. After success that may be done before pcclDestroyTrainer; the trainer then
 * still has its status, outer parameters and pcclTrainerSave. */
PCCL_EXPORT pcclResult_t pcclTrainerFinish(pcclTrainer_t *trainer, pcclTrainerStatus_t *status);

/** Makes the call of this trainer that blocks, or the next one that would, return pcclRankConnectionLost. Any thread; safe in a
 * signal's wake, not inside its handler. */
PCCL_EXPORT pcclResult_t pcclTrainerInterrupt(pcclTrainer_t *trainer);

/** Reads the status without doing anything. */
PCCL_EXPORT pcclResult_t pcclTrainerGetStatus(const pcclTrainer_t *trainer, pcclTrainerStatus_t *status);

/** Copies the outer parameters of tensor `index` to `out`: `parameters[index].count` floats. What one evaluates and saves. */
PCCL_EXPORT pcclResult_t pcclTrainerGetOuterParameters(const pcclTrainer_t *trainer, size_t index, float *out);

/** Writes the outer state to a file, by way of a second one beside it that is renamed: a crash leaves the old or the new. An average
 * under way is not part of it. @retval pcclInternalError The file cannot be written; pcclGetLastError says why. */
PCCL_EXPORT pcclResult_t pcclTrainerSave(const pcclTrainer_t *trainer, const char *path);
/** Reads what pcclTrainerSave wrote, for the same tensors: any method and settings. Sets the parameters, too. Before pcclTrainerJoin
 * only: a peer of a run that is under way is then given the run's state, as any newcomer.
 * @retval pcclInvalidArgument  No such file, damaged, or of other tensors: nothing is changed. */
PCCL_EXPORT pcclResult_t pcclTrainerLoad(pcclTrainer_t *trainer, const char *path);

#ifdef __cplusplus
}
#endif

#endif
