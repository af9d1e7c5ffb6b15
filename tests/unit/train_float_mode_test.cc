// Outer steps give the same bits in every floating-point mode of a peer's threads.
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include <unistd.h>

#include <pccl/train.h>

#include "train/variance.h"
#include "train/vector.h"
#include "unit/each_target.h"
#include "unit/float_modes.h"
#include "unit/train_world.h"

namespace pccl::train {
namespace {

using test::Bits;
using test::expect_same_bits_in_every_mode;
using test::float_control;
using test::mode_of;
using test::set_float_control;
using test::WithFloatControl;

constexpr std::size_t kCount = 70;

/// Denormal numbers, small numbers whose products are denormal, and ordinary numbers.
std::vector<float> mixed(float factor) {
    std::vector<float> out(kCount);
    for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = factor * static_cast<float>(i + 1) * (i % 3 == 0 ? 1e-40F : i % 3 == 1 ? 1e-37F : 0.1F);
    return out;
}

template <class T> void append(Bits &bits, const std::vector<T> &values) {
    const std::size_t before = bits.size();
    bits.resize(before + values.size() * sizeof(T));
    std::memcpy(bits.data() + before, values.data(), values.size() * sizeof(T));
}

void append(Bits &bits, double value) { append(bits, std::vector{value}); }

TEST(FloatMode, DoesNotChangeOuterSteps) {
    test::on_every_target(vector_target, [](std::int64_t) {
        const auto p0 = mixed(1.0F), v0 = mixed(0.7F), g0 = mixed(-0.3F);
        expect_same_bits_in_every_mode("outer steps", [&] {
            Bits out;
            auto p = p0, v = v0;
            const auto g = g0;
            sgd(p.data(), g.data(), 0.7F, kCount);
            heavy_ball(p.data(), v.data(), g.data(), 0.3F, 0.9F, kCount);
            nesterov(p.data(), v.data(), g.data(), 0.7F, 0.9F, kCount);
            append(out, clipped_heavy_ball(p.data(), v.data(), g.data(), 0.3F, 0.9F, 1.5F, 0.05F, kCount));
            append(out, squared_distance(p.data(), g.data(), kCount));
            mix(p.data(), g.data(), 0.3F, kCount);
            overlay(p.data(), v.data(), g.data(), v0.data(), 0.3F, 0.9F, kCount);
            multiply(p.data(), 0.3F, kCount);
            divide(v.data(), 3.0F, kCount);
            append(out, p);
            append(out, v);
            return out;
        });
    });
}

TEST(FloatMode, DoesNotChangePseudoGradientsAndHalves) {
    test::on_every_target(vector_target, [](std::int64_t) {
        const auto p0 = mixed(1.0F);
        for (const pcclDataType_t type : {pcclFloat, pcclFloat16, pcclBFloat16}) {
            expect_same_bits_in_every_mode("parameters of type " + std::to_string(type), [&] {
                Bits out, held(kCount * parameter_bytes(type));
                std::vector<float> widened(kCount), gradient(kCount);
                store(type, p0.data(), held.data(), kCount);
                load(type, held.data(), widened.data(), kCount);
                difference(type, p0.data(), held.data(), gradient.data(), kCount);
                append(out, widened);
                append(out, gradient);
                out.insert(out.end(), held.begin(), held.end());
                return out;
            });
        }
    });
}

TEST(FloatMode, DoesNotChangeGossip) {
    const auto p = mixed(1.0F), q = mixed(0.3F);
    expect_same_bits_in_every_mode("gossip", [&] {
        Bits out;
        std::vector<double> sum(kCount);
        std::vector<float> narrowed(kCount), divided(kCount);
        std::memset(sum.data(), 0, kCount * sizeof(double));
        add(sum.data(), p.data(), 0.3, kCount);
        add(sum.data(), q.data(), 1e-300, kCount);
        average(sum.data(), q.data(), 0.3, 0.7, kCount);
        const Moments m = moments(sum.data(), kCount), n = moments(p.data(), kCount);
        rescale(sum.data(), n.variance, kCount);
        narrow(sum.data(), 0.3, narrowed.data(), kCount);
        quotient(sum.data(), 3.0, divided.data(), kCount);
        for (const double value : {m.mean, m.variance, n.mean, n.variance})
            append(out, value);
        append(out, sum);
        append(out, narrowed);
        append(out, divided);
        return out;
    });
}

/// Inner steps from denormal parameters to denormal parameters, at one peer that flushes denormals and at others that do not.
TEST(FloatMode, OuterStatesAgreeIfOnePeerFlushesDenormals) {
    for (const auto method :
         {pcclMethodDiLoCo, pcclMethodAsyncDiLoCo, pcclMethodEagerDiLoCo, pcclMethodStreamingDiLoCo, pcclMethodCO2}) {
        for (const bool sharded : {false, true}) {
            if (sharded && (method == pcclMethodEagerDiLoCo || method == pcclMethodStreamingDiLoCo)) continue;
            World world(method);
            world.config.sync_every = 2;
            world.config.sharded = sharded;
            world.config.outer_learning_rate = 0.3F;
            world.steps = 40;
            std::vector<std::uint64_t> diverged(3);
            world.inner = [](Values &w, int id, std::uint64_t) {
                set_float_control(test::float_modes().front());
                for (std::size_t i = 0; i < w.size(); ++i)
                    w[i] = 0.7F * w[i] + static_cast<float>(i) * 1e-40F;
                if (id == 1) set_float_control(test::float_modes().back());
            };
            const auto logs = world.train(3);
            expect_parity(logs);
            for (const auto &[id, log] : logs) {
                EXPECT_TRUE(log.outcome.ok()) << log.outcome.why;
                EXPECT_EQ(log.events & PCCL_TRAINER_DIVERGED, 0U)
                    << "method " << method << (sharded ? " sharded" : "") << ", peer " << id;
            }
        }
    }
}

TEST(FloatMode, WorkerHasTheDefaultModeForAnyCreator) {
    const auto standard = mode_of(float_control());
    const WithFloatControl with(test::float_modes().back());
    const auto worker = make_thread();
    test::FloatControl found = 0;
    worker->begin([&] { found = mode_of(float_control()); });
    worker->wait();
    EXPECT_EQ(found, standard);
}

/// Each call of the C interface, in each mode and with traps.
TEST(FloatMode, IsUnchangedByEveryCallOfATrainer) {
    auto modes = test::float_modes();
    modes.push_back(test::trapping_mode());
    for (const auto mode : modes) {
        std::vector<float> w = mixed(1.0F), out(kCount);
        pcclTensorInfo_t tensor{};
        tensor.name = "w";
        tensor.data = w.data();
        tensor.count = kCount;
        tensor.datatype = pcclFloat;
        std::uint8_t counter = 1;
        pcclTensorInfo_t shared{};
        shared.name = "counter";
        shared.data = &counter;
        shared.count = 1;
        const std::string path = testing::TempDir() + "pccl_float_mode_" + std::to_string(getpid());
        pcclTrainerConfig_t config;
        pcclTrainerStatus_t status;
        pcclTrainer_t *trainer = nullptr;
        std::size_t bytes = 0;
        bool due = false;
        std::vector<std::pair<const char *, test::FloatControl>> after;
        const WithFloatControl with(mode);
        const auto note = [&](const char *call, pcclResult_t) { after.emplace_back(call, float_control()); };
        note("config", pcclTrainerConfigInit(&config, pcclMethodLocal));
        note("status", pcclTrainerStatusInit(&status));
        note("bytes", pcclTrainerStateBytes(&config, &tensor, 1, &bytes));
        note("create", pcclCreateTrainer(&config, nullptr, &tensor, 1, &trainer));
        note("share", pcclTrainerShare(trainer, &shared, 1));
        note("save", pcclTrainerSave(trainer, path.c_str()));
        note("load", pcclTrainerLoad(trainer, path.c_str()));
        note("join", pcclTrainerJoin(trainer));
        note("step", pcclTrainerStep(trainer, &status));
        note("due", pcclTrainerIsDue(trainer, &due));
        note("weight, which fails", pcclTrainerAddWeight(trainer, 1.0));
        note("end of a round, which fails", pcclTrainerEndRound(trainer, &status));
        note("get", pcclTrainerGetStatus(trainer, &status));
        note("outer parameters", pcclTrainerGetOuterParameters(trainer, 0, out.data()));
        note("finish", pcclTrainerFinish(trainer, &status));
        note("interrupt", pcclTrainerInterrupt(trainer));
        note("destroy", pcclDestroyTrainer(trainer));
        set_float_control(test::float_modes().front());
        std::remove(path.c_str());
        for (const auto &[call, found] : after)
            EXPECT_EQ(mode_of(found), mode_of(mode)) << call;
    }
}

}  // namespace
}  // namespace pccl::train
