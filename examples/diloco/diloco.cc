// Training over PCCL: each peer trains a copy of the model on its own data, and the library's trainer combines the copies.
//
// This file has the parts of any training program: a model, data, an inner optimizer, and one call of the library after each
// inner step. The method is configuration. The call handles lost peers, newcomers and a restarted master.
#include <algorithm>
#include <array>
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

#include <pccl/train.h>

#include "mlp.h"
#include "mnist.h"
#include "optimizer.h"
#include "options.h"
#include "report.h"

namespace diloco {
namespace {

using Clock = std::chrono::steady_clock;

enum Tag : std::uint64_t { kGradient, kSmallest, kLargest, kModel, kDistance };

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Throws the error of the last call if it failed.
void check(pcclResult_t result, const char *call) {
    if (result == pcclSuccess) return;
    throw std::runtime_error(std::string(call) + ": " + pcclGetErrorString(result) + ". " + pcclGetLastError());
}

struct Destroy {
    void operator()(pcclComm_t *comm) const { pcclDestroyCommunicator(comm); }
    void operator()(pcclTrainer_t *trainer) const { pcclDestroyTrainer(trainer); }
};

/// One peer. It uses one thread, and all calls block.
class Peer {
public:
    explicit Peer(const Options &options);

    /// Trains until the last round of the options. Returns the exit status.
    int run();

private:
    void create();
    void look_around();
    void inner_step();
    void average_gradient();
    void end_round();
    bool compare(FinalRecord &record);
    double average_models(int &world);
    double test();

    const Options options_;
    const std::uint64_t steps_;  // number of inner steps of the whole run
    Report report_;
    Dataset shard_, test_;
    Mlp model_, test_model_;
    std::vector<float> parameters_, gradient_, outer_parameters_;
    std::vector<float> mean_;  // mean of all peers' models (gossip)
    AdamW inner_;
    std::mt19937_64 random_;

    std::unique_ptr<pcclComm_t, Destroy> comm_;
    std::unique_ptr<pcclTrainer_t, Destroy> trainer_;
    pcclTrainerStatus_t status_{};
    pcclTrainerStatus_t last_{};  // status at the end of the previous round
    StepRecord record_;           // record of the present round
    std::size_t losses_ = 0;      // number of losses in record_.loss
    Clock::time_point start_;
    double testing_s_ = 0.0;
};

Peer::Peer(const Options &options)
    : options_(options), steps_(options.rounds * options.trainer.sync_every), report_(options.report),
      shard_(
          take_shard(read_mnist(options.data, "train"), options.shard_index, options.shard_count, options.split, options.seed)),
      test_(read_mnist(options.data, "t10k")), model_(shard_.pixels, options.hidden, options.layers, options.batch),
      test_model_(shard_.pixels, options.hidden, options.layers, 128), parameters_(model_.initial_parameters(options.seed)),
      gradient_(parameters_.size()), outer_parameters_(parameters_.size()),
      inner_(parameters_.size(), std::max<std::size_t>(1, options.trainer.sync_every / 10)),
      random_(options.seed * 1'000'003 + options.shard_index) {
    if (test_.pixels != shard_.pixels || shard_.size() == 0) {
        throw std::runtime_error(options.data + ": the training and test images have different sizes, or the shard is empty");
    }
    create();
}

/// Creates the trainer of `parameters_`.
void Peer::create() {
    check(pcclInit(), "pcclInit");
    pcclCommConfig_t comm_config;
    check(pcclCommConfigInit(&comm_config), "pcclCommConfigInit");
    comm_config.master_address = options_.master.c_str();
    pcclComm_t *comm = nullptr;
    check(pcclCreateCommunicatorWithConfig(&comm_config, &comm), "pcclCreateCommunicatorWithConfig");
    comm_.reset(comm);

    pcclTrainerConfig_t config = options_.trainer;
    config.reduce = &options_.reduce;
    config.state_file = options_.state_file.empty() ? nullptr : options_.state_file.c_str();
    std::vector<pcclTensorInfo_t> tensors;
    const auto layout = model_.tensors();
    for (const Mlp::Tensor &t : layout) {
        tensors.push_back({t.name.c_str(), parameters_.data() + t.offset, t.count, pcclFloat, pcclDeviceCpu, false});
    }
    pcclTrainer_t *trainer = nullptr;
    check(pcclCreateTrainer(&config, comm, tensors.data(), tensors.size(), &trainer), "pcclCreateTrainer");
    trainer_.reset(trainer);
    if (options_.average_gradients) {  // all peers make the same inner steps, so newcomers need the optimizer's state as well
        const auto m = inner_.first_moments(), v = inner_.second_moments();
        const pcclTensorInfo_t shared[] = {{"adamw.m", m.data(), m.size(), pcclFloat, pcclDeviceCpu, false},
                                           {"adamw.v", v.data(), v.size(), pcclFloat, pcclDeviceCpu, false},
                                           {"adamw.steps", &inner_.steps(), 1, pcclUint64, pcclDeviceCpu, false}};
        check(pcclTrainerShare(trainer, shared, std::size(shared)), "pcclTrainerShare");
    }
    if (!options_.load.empty()) check(pcclTrainerLoad(trainer, options_.load.c_str()), "pcclTrainerLoad");
    check(pcclTrainerStatusInit(&status_), "pcclTrainerStatusInit");
}

int Peer::run() {
    check(pcclTrainerJoin(trainer_.get()), "pcclTrainerJoin");
    check(pcclTrainerGetStatus(trainer_.get(), &status_), "pcclTrainerGetStatus");
    report_.joined(status_.inner_steps / options_.trainer.sync_every, static_cast<int>(status_.world_size));
    if (status_.inner_steps < options_.expected_step * options_.trainer.sync_every) {
        throw std::runtime_error("the run has made " + std::to_string(status_.inner_steps / options_.trainer.sync_every) +
                                 " rounds, not " + std::to_string(options_.expected_step) +
                                 " (--expect-step): the peers that this one "
                                 "expected have probably ended. To begin a new run, leave the option out");
    }
    last_ = status_;
    if (options_.own_start && status_.inner_steps == 0) {  // to the trainer this is the result of a first inner step
        const auto own = model_.initial_parameters(options_.seed * 1'000'003 + options_.shard_index + 1);
        std::ranges::copy(own, parameters_.begin());  // the trainer has the address of parameters_
    }
    start_ = Clock::now();
    while (status_.inner_steps < steps_) {
        look_around();
        inner_step();
        check(pcclTrainerStep(trainer_.get(), &status_), "pcclTrainerStep");
        record_.received |= (status_.events & PCCL_TRAINER_STATE_RECEIVED) != 0;
        record_.rejoined |= (status_.events & PCCL_TRAINER_REJOINED) != 0;
        if (status_.inner_steps % options_.trainer.sync_every == 0) end_round();
    }
    check(pcclTrainerFinish(trainer_.get(), &status_), "pcclTrainerFinish");
    FinalRecord record;
    record.step = status_.inner_steps / options_.trainer.sync_every;
    record.hash = status_.digest;
    if (options_.models_differ) {
        const double distance = average_models(record.world);
        record.spread = {distance, test_model_.accuracy(mean_, test_, options_.test_images)};
    } else {
        record.identical = compare(record);
    }
    record.accuracy = test();
    if (!options_.save.empty()) check(pcclTrainerSave(trainer_.get(), options_.save.c_str()), "pcclTrainerSave");
    report_.done(record);
    return record.identical || record.spread ? 0 : 1;
}

/// Gossip: measures the distance between models at the beginning of a round. Newcomers that were just admitted take part.
void Peer::look_around() {
    if (!options_.models_differ || options_.distance_every == 0) return;
    if (status_.inner_steps % (options_.distance_every * options_.trainer.sync_every) != 0) return;
    const auto start = Clock::now();
    int world = 0;
    record_.distance = average_models(world);
    testing_s_ += seconds_since(start);
}

/// The learning rate follows the run's steps, so that newcomers have the same rate as the others.
void Peer::inner_step() {
    const auto start = Clock::now();
    const double progress = static_cast<double>(status_.inner_steps) / static_cast<double>(steps_);
    const double fraction = 0.1 + 0.9 * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
    std::vector<std::size_t> indices(options_.batch);
    for (std::size_t &index : indices) {
        index = random_() % shard_.size();
    }
    record_.loss += static_cast<double>(model_.loss_and_gradient(parameters_, shard_, indices, gradient_));
    ++losses_;
    std::this_thread::sleep_until(start + options_.step_time);
    record_.compute_s += seconds_since(start);
    if (options_.average_gradients) average_gradient();
    const auto update = Clock::now();
    inner_.step(parameters_, gradient_, options_.inner_rate * static_cast<float>(fraction));
    record_.compute_s += seconds_since(update);
}

/// Averages the gradients of all peers, without peers that are lost meanwhile. A peer that is alone or has fallen out of the run
/// continues with its own gradient. The trainer detects this at the end of the round, and the peer receives the others' state on
/// its return.
void Peer::average_gradient() {
    const auto start = Clock::now();
    const pcclReduceOpDescriptor_t operation{
        gradient_.data(),
        gradient_.data(),
        {gradient_.size(), pcclAvg, kGradient, {pcclFloat, pcclDistributionNone}, options_.trainer.quantization}};
    pcclReduceInfo_t info{};
    const pcclResult_t result = pcclAllReduceMultipleWithRetry(&operation, 1, comm_.get(), &info, 1);
    if (result != pcclTooFewPeers && result != pcclMasterConnectionFailed) check(result, "pcclAllReduceMultipleWithRetry");
    record_.tx_bytes += info.tx_bytes;
    record_.rx_bytes += info.rx_bytes;
    record_.communication_s += seconds_since(start);
    record_.under_way_s += seconds_since(start);
}

/// Reports the round that has ended.
void Peer::end_round() {
    const std::uint64_t round = status_.inner_steps / options_.trainer.sync_every;
    if (options_.test_every != 0 && round % options_.test_every == 0) record_.accuracy = test();
    record_.step = round;
    record_.inner_steps = status_.inner_steps;
    record_.outer_steps = status_.outer_steps;
    record_.world = static_cast<int>(status_.contributors != 0 ? status_.contributors : status_.world_size);
    const int grown = static_cast<int>(status_.world_size) - static_cast<int>(last_.world_size);
    record_.joined = std::max(0, grown);
    record_.lost = std::max(0, -grown);
    record_.loss /= static_cast<double>(losses_);
    record_.tx_bytes += status_.tx_bytes - last_.tx_bytes;
    record_.rx_bytes += status_.rx_bytes - last_.rx_bytes;
    record_.communication_s += status_.blocked_s - last_.blocked_s;
    record_.under_way_s += status_.communicating_s - last_.communicating_s;
    record_.time_s = seconds_since(start_) - testing_s_;
    record_.penalty = status_.penalty;
    record_.digest = status_.digest;
    report_.step(record_, options_.rounds);
    if (!options_.save.empty() && options_.save_every != 0 && round % options_.save_every == 0) {
        check(pcclTrainerSave(trainer_.get(), options_.save.c_str()), "pcclTrainerSave");
    }
    record_ = {};
    losses_ = 0;
    last_ = status_;
}

/// After the last step: all digests of the outer state are equal if the smallest and the largest digest over all peers are equal.
bool Peer::compare(FinalRecord &record) {
    record.world = 1;
    if (options_.trainer.method == pcclMethodLocal) return true;
    std::uint64_t smallest = 0, largest = 0;
    const pcclReduceOperandDescriptor_t integers{pcclUint64, pcclDistributionNone};
    const pcclReduceOpDescriptor_t operations[] = {
        {&status_.digest, &smallest, {1, pcclMin, kSmallest, integers, {}}},
        {&status_.digest, &largest, {1, pcclMax, kLargest, integers, {}}},
    };
    pcclReduceInfo_t info{};
    const pcclResult_t result = pcclAllReduceMultipleWithRetry(operations, std::size(operations), comm_.get(), &info, 2);
    if (result == pcclTooFewPeers) return true;  // the only peer left agrees with itself
    check(result, "pcclAllReduceMultipleWithRetry");
    record.world = static_cast<int>(info.local_world_size);
    return smallest == status_.digest && largest == status_.digest;
}

/// Sets mean_ to the mean of all peers' parameters, and returns the root mean square of their distances from it, divided by its
/// norm. Gossip keeps this value small. It is 0 for a peer that is alone. Sets `world` to the number of peers that took part.
double Peer::average_models(int &world) {
    const auto average = [&](void *from, void *to, std::size_t count, pcclDataType_t type, Tag tag) {
        const pcclReduceOpDescriptor_t operation{from, to, {count, pcclAvg, tag, {type, pcclDistributionNone}, {}}};
        pcclReduceInfo_t info{};
        const pcclResult_t result = pcclAllReduceMultipleWithRetry(&operation, 1, comm_.get(), &info, 1);
        if (result == pcclTooFewPeers || result == pcclMasterConnectionFailed) return false;
        check(result, "pcclAllReduceMultipleWithRetry");
        world = static_cast<int>(info.local_world_size);
        return true;
    };
    world = 1;
    mean_ = parameters_;
    if (!average(parameters_.data(), mean_.data(), mean_.size(), pcclFloat, kModel)) return 0.0;
    double norm = 0.0, square = 0.0, mean_square = 0.0;
    for (std::size_t i = 0; i < mean_.size(); ++i) {
        const double apart = static_cast<double>(parameters_[i]) - static_cast<double>(mean_[i]);
        square += apart * apart;
        norm += static_cast<double>(mean_[i]) * static_cast<double>(mean_[i]);
    }
    if (!average(&square, &mean_square, 1, pcclDouble, kDistance)) mean_square = square;
    return norm > 0.0 ? std::sqrt(mean_square / norm) : 0.0;
}

/// The test accuracy of the outer parameters. A peer that trains alone tests its own parameters.
double Peer::test() {
    const auto start = Clock::now();
    outer_parameters_ = parameters_;
    if (options_.trainer.method != pcclMethodLocal) {
        const auto tensors = model_.tensors();
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            check(pcclTrainerGetOuterParameters(trainer_.get(), i, outer_parameters_.data() + tensors[i].offset),
                  "pcclTrainerGetOuterParameters");
        }
    }
    const double accuracy = test_model_.accuracy(outer_parameters_, test_, options_.test_images);
    testing_s_ += seconds_since(start);
    record_.compute_s += seconds_since(start);
    return accuracy;
}

}  // namespace
}  // namespace diloco

int main(int argc, char **argv) {
    static_cast<void>(pcclInit());  // the first call, because it reserves standard file descriptors that are closed
    int exit_status = 0;
    try {
        const auto options = diloco::parse_options(argc, argv, exit_status);
        return options ? diloco::Peer(*options).run() : exit_status;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "diloco: %s\n", error.what());
        return 1;
    }
}
