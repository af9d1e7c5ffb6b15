// Calls that train a small model with a trainer of pccl/train.h and report the model after each outer step.
#include "peer/inputs.h"
#include "peer/session.h"

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include <pccl/train.h>

namespace pccl::itest {
namespace {

struct DestroyTrainer {
    void operator()(pcclTrainer_t *trainer) const { pcclDestroyTrainer(trainer); }
};
using TrainerHandle = std::unique_ptr<pcclTrainer_t, DestroyTrainer>;

/// The configuration refers to `reduce`.
pcclTrainerConfig_t config_of(const Json &request, pcclReduceOptions_t &reduce) {
    pcclTrainerConfig_t config;
    pcclTrainerConfigInit(&config, static_cast<pcclMethod_t>(request.value("method", 1)));
    config.sync_every = request.value("sync_every", 5U);
    config.outer_learning_rate = 0.3F;
    config.newcomers = static_cast<pcclNewcomers_t>(request.value("newcomers", 0));
    config.weighted = request.value("weighted", false);
    config.min_peers = request.value("min_peers", 1U);
    const auto packing = tools::packing_named(request.value("quant", "none")).value();
    config.quantization = packing.quantization;
    pcclReduceOptionsInit(&reduce);
    reduce.quantization_block = packing.block;
    reduce.quantization_scale = packing.scale;
    reduce.error_feedback = request.value("error_feedback", false);
    if (request.value("repair", false)) reduce.on_peer_loss = pcclLossPolicyRepair;
    config.reduce = &reduce;
    if (request.contains("rejoin_ms")) config.rejoin_ms = request.at("rejoin_ms");
    return config;
}

/// Trains until the run has made `steps` inner steps. An event after each outer step: its number, a hash of the outer parameters,
/// the world.
Json call_train(Session &session, const Json &request) {
    const std::size_t count = request.value("count", std::size_t{10'000});
    const std::uint64_t steps = request.value("steps", std::uint64_t{100});
    const auto pause = std::chrono::microseconds(request.value("pause_us", 1000));
    const float target = request.value("target", 1.0F);
    std::vector<float> w(count, 0.0F), outer(count);
    pcclTensorInfo_t tensors[2] = {{"first", w.data(), count / 2, pcclFloat, pcclDeviceCpu, false},
                                   {"second", w.data() + count / 2, count - count / 2, pcclFloat, pcclDeviceCpu, false}};
    pcclReduceOptions_t reduce;
    const pcclTrainerConfig_t config = config_of(request, reduce);
    pcclTrainer_t *made = nullptr;
    if (const auto result = pcclCreateTrainer(&config, session.comm(request), tensors, 2, &made); result != pcclSuccess)
        return answer_of(result);
    const TrainerHandle trainer(made);
    if (const auto result = pcclTrainerJoin(made); result != pcclSuccess) return answer_of(result);

    pcclTrainerStatus_t status;
    pcclTrainerStatusInit(&status);
    pcclTrainerGetStatus(made, &status);
    std::uint32_t all_events = 0;
    const auto tell = [&] {
        pcclTrainerGetOuterParameters(made, 0, outer.data());
        pcclTrainerGetOuterParameters(made, 1, outer.data() + count / 2);
        session.emit({{"event", "outer"},
                      {"outer", status.outer_steps},
                      {"hash", hash_bytes(outer.data(), count * sizeof(float))},
                      {"world", status.world_size}});
    };
    pcclResult_t result = pcclSuccess;
    while (status.inner_steps < steps && result == pcclSuccess) {
        std::this_thread::sleep_for(pause);
        for (std::size_t i = 0; i < count; ++i)
            w[i] -= 0.1F * (w[i] - target - 0.01F * static_cast<float>(i % 13));
        result = pcclTrainerStep(made, &status);
        all_events |= status.events;
        if (result == pcclSuccess && (status.events & PCCL_TRAINER_OUTER_STEP) != 0) tell();
    }
    if (result == pcclSuccess) {
        result = pcclTrainerFinish(made, &status);
        if (result == pcclSuccess) tell();
    }
    Json answer = answer_of(result);
    answer["events"] = all_events;
    answer["inner_steps"] = status.inner_steps;
    answer["final"] = hash_bytes(w.data(), count * sizeof(float));
    answer["mean"] = w[0];
    return answer;
}

}  // namespace

void add_trainer_calls(CallTable &table) { table["train"] = call_train; }

}  // namespace pccl::itest
