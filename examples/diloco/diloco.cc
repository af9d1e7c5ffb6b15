// DiLoCo over PCCL: the loop that a fault-tolerant trainer runs, and what it does about each failure.
//
// Every peer holds the outer state (parameters, momentum, step). In a round it trains a copy of the parameters alone, on its own
// data, for many inner steps; the differences (pseudo-gradients) are averaged over all peers, and every peer makes the same outer
// step with that average. So the outer state stays bit-identical at all peers, which the library checks, and a late joiner
// gets it from them. The inner optimizer's state stays at its peer.
//
// A round is done by everybody or by nobody: what a peer does after a failure depends on nothing but what all of them see.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <numbers>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include <pccl/pccl.h>

#include "mlp.h"
#include "mnist.h"
#include "optimizer.h"
#include "options.h"
#include "report.h"

namespace diloco {
namespace {

using Clock = std::chrono::steady_clock;

/// Adds the time it lives to `total`, in seconds.
class Timer {
public:
    explicit Timer(double &total) : total_(total) {}
    ~Timer() { total_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
    Timer(const Timer &) = delete;
    Timer &operator=(const Timer &) = delete;

private:
    double &total_;
    Clock::time_point start_ = Clock::now();
};

/// What to do after a call of the library.
enum class Next {
    kGoOn,     // it succeeded
    kGoRound,  // the world has changed: begin the next round with it
    kRejoin,   // this peer is no longer in the run: connect again
    kGiveUp    // a mistake in the program or its options: repeating the call cannot help
};

void complain(const char *call, pcclResult_t result) {
    std::fprintf(stderr, "diloco: %s: %s. %s\n", call, pcclGetErrorString(result), pcclGetLastError());
}

Next after(const char *call, pcclResult_t result) {
    if (result == pcclSuccess) return Next::kGoOn;
    complain(call, result);
    switch (result) {
    case pcclRankConnectionLost:      // a peer was lost, and every survivor knows it: they are the new world
    case pcclTooFewPeers:             // all others were lost: wait for newcomers
    case pcclNoSharedStateAvailable:  // those that held the state were lost: those that are left choose again
    case pcclUpdateTopologyFailed:    // the newcomer was not admitted: the world is as it was
        return Next::kGoRound;
    case pcclMasterConnectionFailed:  // the master is gone, or took this peer for dead
        return Next::kRejoin;
    default: return Next::kGiveUp;
    }
}

struct DestroyCommunicator {
    void operator()(pcclComm_t *comm) const { pcclDestroyCommunicator(comm); }
};

/// One peer. One thread; everything blocks.
class Trainer {
public:
    explicit Trainer(const Options &options);
    Trainer(const Trainer &) = delete;
    Trainer &operator=(const Trainer &) = delete;

    /// Trains until the outer step that the options name. Returns the exit status.
    int run();

private:
    bool join();
    Next round();
    Next meet();
    Next agree();
    void train();
    Next average();
    void finish_step();
    bool compare();
    void see_world();

    const Options options_;
    Report report_;
    std::unique_ptr<pcclComm_t, DestroyCommunicator> comm_;

    Dataset shard_, test_;
    Mlp model_, test_model_;

    // The outer state: equal at all peers after every synchronization and after every outer step.
    std::uint64_t revision_ = 0;
    std::uint64_t step_ = 0;  // outer steps done by the whole run
    std::vector<float> theta_, velocity_;

    // This peer's own.
    std::vector<float> parameters_;  // what the inner steps change
    std::vector<float> gradient_;    // of one inner step
    std::vector<float> difference_;  // the pseudo-gradient: this peer's, then the mean
    float loss_ = 0.0F;              // likewise
    AdamW inner_;
    std::mt19937_64 random_;
    bool newcomer_ = true;  // in the first round after joining
    bool announced_ = false;
    int world_ = 0;
    StepRecord record_;  // of the outer step under way
};

Trainer::Trainer(const Options &options)
    : options_(options), report_(options.report),
      shard_(take_shard(read_mnist(options.data, "train"), options.shard_index, options.shard_count, options.seed)),
      test_(read_mnist(options.data, "t10k")), model_(shard_.pixels, options.hidden, options.batch),
      test_model_(shard_.pixels, options.hidden, 128), theta_(model_.initial_parameters(options.seed)),
      velocity_(theta_.size(), 0.0F), parameters_(theta_.size()), gradient_(theta_.size()), difference_(theta_.size()),
      inner_(theta_.size(), std::max<std::size_t>(1, options.inner_steps / 10)),
      random_(options.seed * 1'000'003 + options.shard_index) {
    if (test_.pixels != shard_.pixels || shard_.size() == 0) {
        throw std::runtime_error(options.data + ": the training and test images do not fit together, or the shard is empty");
    }
    pcclCommConfig_t config;
    pcclComm_t *comm = nullptr;
    pcclResult_t result = pcclInit();
    if (result == pcclSuccess) result = pcclCommConfigInit(&config);
    if (result == pcclSuccess) {
        config.master_address = options_.master.c_str();
        result = pcclCreateCommunicatorWithConfig(&config, &comm);
    }
    if (result != pcclSuccess) {
        complain("pcclCreateCommunicatorWithConfig", result);
        throw std::runtime_error("no communicator");
    }
    comm_.reset(comm);
}

int Trainer::run() {
    if (!join()) return 1;
    while (step_ < options_.outer_steps) {
        const Next next = round();
        if (next == Next::kGiveUp || (next == Next::kRejoin && !join())) return 1;
    }
    return compare() ? 0 : 1;
}

/// Joins the run. Blocks until the members admit this peer; the master itself may be tried for `join_timeout`.
bool Trainer::join() {
    const auto deadline = Clock::now() + options_.join_timeout;
    for (;;) {
        const pcclResult_t result = pcclConnect(comm_.get());
        if (result == pcclSuccess) {
            newcomer_ = true;
            announced_ = false;
            return true;
        }
        complain("pcclConnect", result);
        const bool may_pass = result == pcclMasterConnectionFailed || result == pcclRankConnectionFailed;
        if (!may_pass || Clock::now() >= deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
}

/// One turn of the loop: at most one outer step.
Next Trainer::round() {
    if (const Next next = meet(); next != Next::kGoOn) return next;
    if (world_ < 2) {
        std::this_thread::sleep_for(options_.poll);
        return Next::kGoRound;
    }
    if (const Next next = agree(); next != Next::kGoOn) return next;
    if (!announced_) {
        announced_ = true;
        report_.joined(step_, world_);
    }
    train();
    const Next next = average();
    if (next == Next::kGoOn) finish_step();
    // One synchronization, one revision. This also holds where all others were lost before the average was there: the round's
    // work is dropped and the next revision holds what this one held. A peer that fell out of the run keeps the old revision,
    // and so will be given the state that the others went on to.
    if (next == Next::kGoOn || next == Next::kGoRound) ++revision_;
    return next;
}

/// The only part in which the world grows. The newcomer's pcclConnect was the other side of the members' pcclUpdateTopology, so
/// it does not make that call in its first round.
Next Trainer::meet() {
    const Timer timer(record_.communication_s);
    bool grown = newcomer_;
    if (!newcomer_) {
        bool pending = false;
        if (const Next next = after("pcclArePeersPending", pcclArePeersPending(comm_.get(), &pending)); next != Next::kGoOn) {
            return next;
        }
        if (pending) {
            if (const Next next = after("pcclUpdateTopology", pcclUpdateTopology(comm_.get())); next != Next::kGoOn) return next;
            grown = true;
        }
    }
    newcomer_ = false;
    if (grown && options_.optimize_topology) {
        const pcclResult_t result = pcclOptimizeTopology(comm_.get());
        const bool old_ring_stays = result == pcclTooFewPeers || result == pcclTopologyOptimizationFailed;
        if (!old_ring_stays) {
            if (const Next next = after("pcclOptimizeTopology", result); next != Next::kGoOn) return next;
        }
    }
    see_world();
    return Next::kGoOn;
}

/// Makes the outer state the same everywhere. Moves no data unless a peer differs: a newcomer, or one that went wrong.
Next Trainer::agree() {
    const Timer timer(record_.communication_s);
    pcclTensorInfo_t tensors[] = {
        {"parameters", theta_.data(), theta_.size(), pcclFloat, pcclDeviceCpu, false},
        {"momentum", velocity_.data(), velocity_.size(), pcclFloat, pcclDeviceCpu, false},
        {"step", &step_, 1, pcclUint64, pcclDeviceCpu, false},
    };
    pcclSharedState_t state{revision_, std::size(tensors), tensors};
    pcclSharedStateSyncInfo_t info{};
    const pcclResult_t result =
        pcclSynchronizeSharedState(comm_.get(), &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, &info);
    if (const Next next = after("pcclSynchronizeSharedState", result); next != Next::kGoOn) return next;
    revision_ = state.revision;
    record_.tx_bytes += info.tx_bytes;
    record_.rx_bytes += info.rx_bytes;
    see_world();
    return Next::kGoOn;
}

/// The inner steps, from the shared parameters. The learning rate follows the shared step, so that a late joiner's fits in.
void Trainer::train() {
    const Timer timer(record_.compute_s);
    const double progress = static_cast<double>(step_) / static_cast<double>(options_.outer_steps);
    const double fraction = 0.1 + 0.9 * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
    const float rate = options_.inner_rate * static_cast<float>(fraction);
    std::vector<std::size_t> indices(options_.batch);
    double loss = 0.0;
    parameters_ = theta_;
    for (std::size_t i = 0; i < options_.inner_steps; ++i) {
        for (std::size_t &index : indices) {
            index = random_() % shard_.size();
        }
        loss += static_cast<double>(model_.loss_and_gradient(parameters_, shard_, indices, gradient_));
        inner_.step(parameters_, gradient_, rate);
    }
    loss_ = static_cast<float>(loss / static_cast<double>(options_.inner_steps));
    for (std::size_t i = 0; i < theta_.size(); ++i) {
        difference_[i] = theta_[i] - parameters_[i];
    }
}

/// The mean of everybody's pseudo-gradient and loss. Peers lost on the way are left out; those that remain average anew.
Next Trainer::average() {
    const Timer timer(record_.communication_s);
    const pcclReduceOperandDescriptor_t floats{pcclFloat, pcclDistributionNone};
    const pcclReduceOpDescriptor_t operations[] = {
        {difference_.data(), difference_.data(), {difference_.size(), pcclAvg, 0, floats, options_.quantization}},
        {&loss_, &loss_, {1, pcclAvg, 1, floats, {}}},
    };
    pcclReduceInfo_t info{};
    const pcclResult_t result =
        pcclAllReduceMultipleWithRetry(operations, std::size(operations), comm_.get(), &info, std::size(operations));
    record_.tx_bytes += info.tx_bytes;
    record_.rx_bytes += info.rx_bytes;
    see_world();
    if (const Next next = after("pcclAllReduceMultipleWithRetry", result); next != Next::kGoOn) return next;
    record_.world = static_cast<int>(info.local_world_size);
    return Next::kGoOn;
}

/// The outer step: the same numbers go in at all peers, so the same bits come out.
void Trainer::finish_step() {
    {
        const Timer timer(record_.compute_s);
        nesterov_step(theta_, velocity_, difference_, {.learning_rate = 0.7F, .momentum = 0.9F});
        ++step_;
        record_.accuracy = test_model_.accuracy(theta_, test_);
    }
    record_.step = step_;
    record_.loss = static_cast<double>(loss_);
    report_.step(record_, options_.outer_steps);
    record_ = {};
}

/// After the last step: a hash of the outer state, whose smallest and largest value over all peers are the same if all are.
bool Trainer::compare() {
    std::uint64_t hash = hash_bits(velocity_, hash_bits(theta_));
    std::uint64_t smallest = 0;
    std::uint64_t largest = 0;
    const pcclReduceOperandDescriptor_t integers{pcclUint64, pcclDistributionNone};
    const pcclReduceOpDescriptor_t operations[] = {
        {&hash, &smallest, {1, pcclMin, 2, integers, {}}},
        {&hash, &largest, {1, pcclMax, 3, integers, {}}},
    };
    pcclReduceInfo_t info{};
    const pcclResult_t result = pcclAllReduceMultipleWithRetry(operations, std::size(operations), comm_.get(), &info, 2);
    if (result == pcclTooFewPeers) {  // the last one left agrees with itself
        smallest = largest = hash;
        info.local_world_size = 1;
    } else if (after("pcclAllReduceMultipleWithRetry", result) != Next::kGoOn) {
        return false;
    }
    const bool identical = smallest == hash && largest == hash;
    report_.done({step_, static_cast<int>(info.local_world_size), test_model_.accuracy(theta_, test_), hash, identical});
    return identical;
}

/// Reads the world's size as the last call saw it, and notes who came and went.
void Trainer::see_world() {
    int now = world_;
    if (pcclGetAttribute(comm_.get(), PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE, &now) != pcclSuccess) return;  // no longer connected
    if (announced_) {
        record_.joined += std::max(0, now - world_);
        record_.lost += std::max(0, world_ - now);
    }
    world_ = now;
}

}  // namespace
}  // namespace diloco

int main(int argc, char **argv) {
    int exit_status = 0;
    const auto options = diloco::parse_options(argc, argv, exit_status);
    if (!options) return exit_status;
    try {
        return diloco::Trainer(*options).run();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "diloco: %s\n", error.what());
        return 1;
    }
}
