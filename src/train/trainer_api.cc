// The C interface of trainers: argument checks and error texts.
#include <pccl/extend.h>
#include <pccl/train.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <utility>

#include "base/float_mode.h"
#include "train/config.h"
#include "train/trainer.h"

using pccl::train::invalid;
using pccl::train::Outcome;
using pccl::train::Trainer;

struct pcclTrainer_t {
    std::unique_ptr<Trainer> impl;
};

namespace {

/// Runs the body of a C function. The text of its failure or exception becomes this thread's last error.
template <class Body> pcclResult_t guarded(Body &&body) noexcept {
    const pccl::FloatMode mode{pccl::KeepFlags{}};
    try {
        const Outcome outcome = body();
        if (!outcome.ok()) pcclSetLastError(outcome.why.c_str());
        return outcome.code;
    } catch (const std::bad_alloc &) {
        pcclSetLastError("out of memory");
    } catch (const std::exception &error) {
        pcclSetLastError(error.what());
    } catch (...) {
        pcclSetLastError("unknown error");
    }
    return pcclInternalError;
}

constexpr std::size_t kSmallestStatus = offsetof(pcclTrainerStatus_t, world_size);

Outcome check(const pcclTrainerStatus_t *status) {
    if (status && (status->struct_size < kSmallestStatus || status->struct_size > pccl::train::kLargestStruct)) {
        return invalid("status->struct_size is not set. Call pcclTrainerStatusInit first");
    }
    return {};
}

/// Copies the fields that the caller's version of the header has.
void fill(pcclTrainerStatus_t *status, const Trainer &trainer) {
    if (!status) return;
    pcclTrainerStatus_t whole = trainer.status();
    whole.struct_size = status->struct_size;
    std::memcpy(status, &whole, std::min(status->struct_size, sizeof whole));
}

/// Runs the body of a trainer's call and fills the status, including after a failure.
template <class Body> pcclResult_t reporting(pcclTrainer_t *trainer, pcclTrainerStatus_t *status, Body &&body) noexcept {
    return guarded([&]() -> Outcome {
        if (!trainer) return invalid("trainer is NULL");
        PCCL_TRAIN_TRY(check(status));
        Outcome outcome = body(*trainer->impl);
        fill(status, *trainer->impl);
        return outcome;
    });
}

template <class T, class Body> pcclResult_t with(T *trainer, Body &&body) noexcept {
    return guarded([&]() -> Outcome { return trainer ? body(*trainer->impl) : invalid("trainer is NULL"); });
}

}  // namespace

extern "C" {

pcclResult_t pcclTrainerConfigInitSized(pcclTrainerConfig_t *config, size_t struct_size, pcclMethod_t method) {
    return guarded([&]() -> Outcome {
        if (!config) return invalid("config is NULL");
        if (struct_size < pccl::train::kSmallestConfig) return invalid("struct_size is not that of a pcclTrainerConfig_t");
        pcclTrainerConfig_t whole;
        if (!pccl::train::set_defaults(whole, method)) return pccl::train::unknown_method(method);
        std::memset(config, 0, struct_size);
        std::memcpy(config, &whole, std::min(struct_size, sizeof whole));
        config->struct_size = struct_size;
        return {};
    });
}

pcclResult_t pcclTrainerStatusInitSized(pcclTrainerStatus_t *status, size_t struct_size) {
    return guarded([&]() -> Outcome {
        if (!status) return invalid("status is NULL");
        if (struct_size < kSmallestStatus) return invalid("struct_size is not that of a pcclTrainerStatus_t");
        std::memset(status, 0, struct_size);
        status->struct_size = struct_size;
        return {};
    });
}

pcclResult_t pcclTrainerStateBytes(const pcclTrainerConfig_t *config, const pcclTensorInfo_t *parameters, size_t count,
                                   size_t *bytes_out) {
    return guarded([&]() -> Outcome {
        using namespace pccl::train;
        if (!bytes_out) return invalid("bytes_out is NULL");
        pcclTrainerConfig_t whole;
        PCCL_TRAIN_TRY(read_config(config, whole));
        std::vector<Parameter> read;
        PCCL_TRAIN_TRY(read_parameters(parameters, count, read));
        Layout layout;
        PCCL_TRAIN_TRY(make_layout(read, whole.fragment_pattern, fragments_of(whole), layout));
        *bytes_out = OuterState::bytes(layout, buffers_of(whole));
        return {};
    });
}

pcclResult_t pcclCreateTrainer(const pcclTrainerConfig_t *config, pcclComm_t *comm, const pcclTensorInfo_t *parameters,
                               size_t count, pcclTrainer_t **trainer_out) {
    return guarded([&]() -> Outcome {
        using namespace pccl::train;
        if (!trainer_out) return invalid("trainer_out is NULL");
        pcclTrainerConfig_t whole;
        PCCL_TRAIN_TRY(read_config(config, whole));
        if (!comm && !traits_of(whole).is_local()) return invalid("comm is NULL");
        std::vector<Parameter> read;
        PCCL_TRAIN_TRY(read_parameters(parameters, count, read));
        auto trainer = std::make_unique<pcclTrainer_t>();
        PCCL_TRAIN_TRY(Trainer::make(whole, collectives_of(comm, whole.reduce), std::move(read), trainer->impl));
        *trainer_out = trainer.release();
        return {};
    });
}

pcclResult_t pcclDestroyTrainer(pcclTrainer_t *trainer) {
    return guarded([&]() -> Outcome {
        if (!trainer) return invalid("trainer is NULL");
        delete trainer;
        return {};
    });
}

pcclResult_t pcclTrainerShare(pcclTrainer_t *trainer, const pcclTensorInfo_t *tensors, size_t count) {
    return with(trainer, [&](Trainer &t) { return t.share(tensors, count); });
}

pcclResult_t pcclTrainerDescribe(pcclTrainer_t *trainer, const char *const *lines, size_t count) {
    return with(trainer, [&](Trainer &t) { return t.define(lines, count); });
}

pcclResult_t pcclTrainerRelocate(pcclTrainer_t *trainer, const char *name, void *data) {
    return with(trainer, [&](Trainer &t) { return name ? t.relocate(name, data) : invalid("name is NULL"); });
}

pcclResult_t pcclTrainerJoin(pcclTrainer_t *trainer) {
    return with(trainer, [](Trainer &t) { return t.join(); });
}

pcclResult_t pcclTrainerStep(pcclTrainer_t *trainer, pcclTrainerStatus_t *status) {
    return reporting(trainer, status, [](Trainer &t) { return t.step(false); });
}

pcclResult_t pcclTrainerEndRound(pcclTrainer_t *trainer, pcclTrainerStatus_t *status) {
    return reporting(trainer, status, [](Trainer &t) { return t.step(true); });
}

pcclResult_t pcclTrainerFinish(pcclTrainer_t *trainer, pcclTrainerStatus_t *status) {
    return reporting(trainer, status, [](Trainer &t) { return t.finish(); });
}

pcclResult_t pcclTrainerIsDue(const pcclTrainer_t *trainer, bool *due_out) {
    return with(trainer, [&](const Trainer &t) {
        if (!due_out) return invalid("due_out is NULL");
        *due_out = t.is_due();
        return Outcome{};
    });
}

pcclResult_t pcclTrainerAddWeight(pcclTrainer_t *trainer, double weight) {
    return with(trainer, [&](Trainer &t) { return t.add_weight(weight); });
}

pcclResult_t pcclTrainerInterrupt(pcclTrainer_t *trainer) {
    return with(trainer, [](Trainer &t) {
        t.interrupt();
        return Outcome{};
    });
}

pcclResult_t pcclTrainerGetStatus(const pcclTrainer_t *trainer, pcclTrainerStatus_t *status) {
    return guarded([&]() -> Outcome {
        if (!trainer || !status) return invalid("trainer or status is NULL");
        PCCL_TRAIN_TRY(check(status));
        fill(status, *trainer->impl);
        return {};
    });
}

pcclResult_t pcclTrainerGetOuterParameters(const pcclTrainer_t *trainer, size_t index, float *out) {
    return with(trainer, [&](const Trainer &t) { return t.outer_parameters(index, out); });
}

pcclResult_t pcclTrainerSave(const pcclTrainer_t *trainer, const char *path) {
    return with(trainer, [&](const Trainer &t) { return path ? t.save(path) : invalid("path is NULL"); });
}

pcclResult_t pcclTrainerLoad(pcclTrainer_t *trainer, const char *path) {
    return with(trainer, [&](Trainer &t) { return path ? t.load(path) : invalid("path is NULL"); });
}

}  // extern "C"
