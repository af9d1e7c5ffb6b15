// Measures the speed of the kernels on one core in bytes of unpacked elements per second (of one operand), for buffers of 256 KiB
// (in L2) and of 64 MiB (in memory). Prints the target's name first. PCCL_BENCH_TARGET=AVX2 (AVX3, SSE4 ...) selects another one.
#include "kernel/targets.h"

#include <hwy/highway.h>

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernel/hash.h"
#include "kernel/quantize.h"
#include "kernel/reduce.h"

namespace pccl::kernel {
namespace {

constexpr std::int64_t kInCache = 256 << 10;
constexpr std::int64_t kInMemory = 64 << 20;
const char *const kTypeNames[] = {"u8",  "i8",   "i16", "u16", "u32", "i32", "u64", "i64",
                                  "f16", "bf16", "f32", "f64", "i4",  "u4",  "u2"};
const char *const kOpNames[] = {"sum", "avg", "prod", "max", "min"};

/// Finite numbers of the type: small integers, or floats around 1.
std::vector<std::uint8_t> operands(Type type, std::size_t bytes) {
    std::vector<std::uint8_t> data(bytes);
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal(0, 1);
    for (std::size_t i = 0; i < bytes / size_of(type); ++i) {
        const float f = normal(random);
        if (type == Type::f32) {
            std::memcpy(data.data() + 4 * i, &f, 4);
        } else if (type == Type::f64) {
            const double d = f;
            std::memcpy(data.data() + 8 * i, &d, 8);
        } else if (is_float(type)) {
            finish(type, Op::sum, data.data() + 2 * i, &f, 1, 1);
        } else {
            data[i * size_of(type)] = static_cast<std::uint8_t>(random());
        }
    }
    return data;
}

void set_bytes(benchmark::State &state) { state.SetBytesProcessed(state.iterations() * state.range(0)); }

void bench_combine(benchmark::State &state, Type type, Op op, bool b_is_input) {
    const Type wide = accumulator(type, op);
    const auto bytes = static_cast<std::size_t>(state.range(0));
    const std::size_t count = bytes / size_of(type);
    auto a = operands(wide, count * size_of(wide));
    const auto b = operands(b_is_input ? type : wide, count * size_of(b_is_input ? type : wide));
    std::vector<std::uint8_t> out(a.size());
    for (auto _ : state) {
        combine({type, op, false, b_is_input}, out.data(), a.data(), b.data(), count);
        benchmark::ClobberMemory();
    }
    set_bytes(state);
}

void bench_finish(benchmark::State &state, Type type, Op op) {
    const Type wide = accumulator(type, op);
    const std::size_t count = static_cast<std::size_t>(state.range(0)) / size_of(type);
    const auto in = operands(wide, count * size_of(wide));
    std::vector<std::uint8_t> out(count * size_of(type));
    for (auto _ : state) {
        finish(type, op, out.data(), in.data(), count, 7);
        benchmark::ClobberMemory();
    }
    set_bytes(state);
}

void bench_widen(benchmark::State &state, Type type) {
    const std::size_t count = static_cast<std::size_t>(state.range(0)) / size_of(type);
    const auto in = operands(type, count * size_of(type));
    std::vector<std::uint8_t> out(count * 4);
    for (auto _ : state) {
        widen(type, Op::sum, out.data(), in.data(), count);
        benchmark::ClobberMemory();
    }
    set_bytes(state);
}

enum class Step { quantize, dequantize, combine };

void bench_quantize(benchmark::State &state, Step step, Quantization how, Type operand) {
    const std::size_t count = static_cast<std::size_t>(state.range(0)) / size_of(operand);
    const auto in = operands(operand, count * size_of(operand));
    std::vector<std::uint8_t> packed(packed_bytes(how, operand, count));
    std::vector<std::uint8_t> out(count * size_of(compute_type(operand)));
    quantize_input(how, operand, packed.data(), in.data(), count);
    for (auto _ : state) {
        if (step == Step::quantize)
            quantize_input(how, operand, packed.data(), in.data(), count);
        else if (step == Step::dequantize)
            dequantize_output(how, operand, out.data(), packed.data(), count);
        else
            dequantize_combine(how, operand, Op::sum, out.data(), packed.data(), in.data(), count);
        benchmark::ClobberMemory();
    }
    set_bytes(state);
}

/// The step of a chunk's owner. The chunk is packed and in the cache; the owner's elements and the result are not in the cache.
void bench_requantize_final(benchmark::State &state, Quantization how, Type operand) {
    const std::size_t count = static_cast<std::size_t>(state.range(0)) / size_of(operand);
    const std::size_t chunk = std::min(count, std::size_t{512 << 10} / size_of(operand));
    const auto own = operands(operand, count * size_of(operand));
    std::vector<std::uint8_t> packed(packed_bytes(how, operand, chunk)), out(own.size());
    quantize_input(how, operand, packed.data(), own.data(), chunk);
    const auto came = packed;
    for (auto _ : state) {
        for (std::size_t i = 0; i < count; i += chunk) {
            std::memcpy(packed.data(), came.data(), came.size());
            requantize_final(how, operand, Op::sum, packed.data(), own.data() + i * size_of(operand),
                             out.data() + i * size_of(operand), chunk, 2);
        }
        benchmark::ClobberMemory();
    }
    set_bytes(state);
}

void bench_checksum(benchmark::State &state) {
    const auto data = operands(Type::u8, static_cast<std::size_t>(state.range(0)));
    for (auto _ : state)
        benchmark::DoNotOptimize(checksum(data.data(), data.size()));
    set_bytes(state);
}

void bench_memcpy(benchmark::State &state) {
    const auto data = operands(Type::u8, static_cast<std::size_t>(state.range(0)));
    std::vector<std::uint8_t> out(data.size());
    for (auto _ : state) {
        std::memcpy(out.data(), data.data(), data.size());
        benchmark::ClobberMemory();
    }
    set_bytes(state);
}

template <class... Args> void add(const std::string &name, Args... args) {
    benchmark::RegisterBenchmark(name.c_str(), args...)->Arg(kInCache)->Arg(kInMemory);
}

void add_reductions() {
    for (int t = 0; t < kTypes; ++t) {
        const auto type = static_cast<Type>(t);
        const std::string suffix = std::string("/") + kTypeNames[t];
        for (const Op op : {Op::sum, Op::prod, Op::max})
            add("combine_" + std::string(kOpNames[static_cast<int>(op)]) + suffix, bench_combine, type, op, true);
        if (accumulator(type, Op::sum) != type) {
            add("widen" + suffix, bench_widen, type);
            add("finish_sum" + suffix, bench_finish, type, Op::sum);
        }
        add("finish_avg" + suffix, bench_finish, type, Op::avg);
    }
}

void add_quantizations() {
    for (const Quant algorithm : {Quant::min_max, Quant::zero_point_scale})
        for (const Type operand : {Type::f32, Type::f16, Type::bf16, Type::f64})
            for (const Type to : {Type::u8, Type::i16, Type::u4, Type::u2}) {
                const Quantization how{algorithm, to, 0, {}};
                const std::string suffix = std::string(algorithm == Quant::min_max ? "_min_max/" : "_zero_point/") +
                                           kTypeNames[static_cast<int>(operand)] + "_" + kTypeNames[static_cast<int>(to)];
                add("quantize" + suffix, bench_quantize, Step::quantize, how, operand);
                add("dequantize" + suffix, bench_quantize, Step::dequantize, how, operand);
                add("dequantize_combine" + suffix, bench_quantize, Step::combine, how, operand);
                add("requantize_final" + suffix, bench_requantize_final, how, operand);
            }
}

void add_block_scales() {
    for (const Type operand : {Type::f32, Type::bf16, Type::f64})
        for (const Type to : {Type::i8, Type::i4, Type::u4, Type::u2})
            for (const Scale scale : {Scale::floating, Scale::power_of_two})
                for (const std::uint16_t block : {std::uint16_t{32}, std::uint16_t{128}}) {
                    const Quantization how{Quant::block_scale, to, block, scale};
                    const std::string suffix = std::string("_block_scale/") + kTypeNames[static_cast<int>(operand)] + "_" +
                                               kTypeNames[static_cast<int>(to)] +
                                               (scale == Scale::floating ? "_float" : "_power") + std::to_string(block);
                    add("quantize" + suffix, bench_quantize, Step::quantize, how, operand);
                    add("dequantize" + suffix, bench_quantize, Step::dequantize, how, operand);
                    add("dequantize_combine" + suffix, bench_quantize, Step::combine, how, operand);
                    add("requantize_final" + suffix, bench_requantize_final, how, operand);
                }
}

bool choose_target(const char *name) {
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets())
        if (std::strcmp(hwy::TargetName(target), name) == 0) {
            hwy::SetSupportedTargetsForTest(target);
            hwy::GetChosenTarget().Update(hwy::SupportedTargets());
            return true;
        }
    std::fprintf(stderr, "this machine or build has no target %s\n", name);
    return false;
}

}  // namespace
}  // namespace pccl::kernel

int main(int argc, char **argv) {
    using namespace pccl::kernel;
    const char *const wanted = std::getenv("PCCL_BENCH_TARGET");
    if (wanted != nullptr && !choose_target(wanted)) return 2;
    std::printf("target %s\n", target_name());
    add("memcpy", bench_memcpy);
    add("checksum", bench_checksum);
    add_reductions();
    add_quantizations();
    add_block_scales();
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
