// Measures the compression of the kinds of data that PCCL sends, on one core. `left` is the compressed length divided by the
// plain length. Speeds count plain bytes and include the byte planes. Chunks have 64 KiB, as on long paths, or 1 MiB, as in
// shared state.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "codec/chunk.h"
#include "kernel/quantize.h"
#include "kernel/reduce.h"

namespace pccl::codec {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::size_t kTotal = 8 << 20;

std::vector<float> floats(std::size_t count, float deviation, float spread) {
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal(0, 1);
    std::vector<float> values(count);
    for (float &v : values) {
        v = deviation * normal(random);
        if (spread > 0) v *= std::exp(spread * normal(random));
    }
    return values;
}

template <class T> Bytes bytes_of(const std::vector<T> &values) {
    Bytes out(values.size() * sizeof(T));
    std::memcpy(out.data(), values.data(), out.size());
    return out;
}

/// Numbers with the distribution of trained weights.
Bytes weights(op::Type type) {
    const auto values = floats(kTotal / op::size_of(type), 0.02F, 0);
    if (type == op::Type::f32) return bytes_of(values);
    if (type == op::Type::f64) return bytes_of(std::vector<double>(values.begin(), values.end()));
    Bytes out(kTotal);
    kernel::finish(type, op::Op::sum, out.data(), values.data(), values.size(), 1);
    return out;
}

/// Numbers with the distribution of gradients: a normal number times a lognormal number.
Bytes quantized(op::Quantization how) {
    const auto values = floats(kTotal, 0.001F, 1);
    Bytes out(kernel::packed_bytes(how, op::Type::f32, values.size()));
    kernel::quantize_input(how, op::Type::f32, out.data(), reinterpret_cast<const std::byte *>(values.data()), values.size(), {});
    return out;
}

Bytes noise() {
    std::mt19937_64 random(1);
    std::vector<std::uint64_t> words(kTotal / 8);
    for (auto &word : words)
        word = random();
    return bytes_of(words);
}

/// Compresses each whole chunk separately. A chunk that does not shrink is empty.
std::vector<Bytes> compress_all(const Bytes &data, std::size_t chunk, unsigned planes) {
    std::vector<Bytes> all;
    for (std::size_t at = 0; at + chunk <= data.size(); at += chunk) {
        Bytes out(chunk);
        out.resize(compress(out.data(), chunk - chunk / 32, data.data() + at, chunk, planes));
        all.push_back(std::move(out));
    }
    return all;
}

void bench_compress(benchmark::State &state, const Bytes &data, unsigned planes) {
    const auto chunk = static_cast<std::size_t>(state.range(0));
    std::size_t left = 0;
    const auto all = compress_all(data, chunk, planes);
    for (const Bytes &one : all)
        left += one.empty() ? chunk : one.size();
    Bytes out(chunk);
    std::size_t at = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(compress(out.data(), chunk - chunk / 32, data.data() + at, chunk, planes));
        at = at + 2 * chunk <= data.size() ? at + chunk : 0;
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
    state.counters["left"] = static_cast<double>(left) / static_cast<double>(all.size() * chunk);
}

void bench_decompress(benchmark::State &state, const Bytes &data, unsigned planes) {
    const auto chunk = static_cast<std::size_t>(state.range(0));
    auto all = compress_all(data, chunk, planes);
    std::erase_if(all, [](const Bytes &one) { return one.empty(); });
    if (all.empty()) return state.SkipWithError("travels as it is");
    Bytes out(chunk);
    std::size_t at = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(decompress(out.data(), chunk, all[at].data(), all[at].size(), planes));
        at = at + 1 < all.size() ? at + 1 : 0;
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

void add(const std::string &name, Bytes data, unsigned planes) {
    const auto shared = std::make_shared<Bytes>(std::move(data));
    for (const std::int64_t chunk : {64 << 10, 1 << 20}) {
        benchmark::RegisterBenchmark((name + "/compress").c_str(), [=](benchmark::State &s) {
            bench_compress(s, *shared, planes);
        })->Arg(chunk);
        benchmark::RegisterBenchmark((name + "/decompress").c_str(), [=](benchmark::State &s) {
            bench_decompress(s, *shared, planes);
        })->Arg(chunk);
    }
}

void add_all() {
    using op::Quant;
    using op::Scale;
    using op::Type;
    add("gradients/minmax-u8", quantized({Quant::min_max, Type::u8}), 1);
    add("gradients/minmax-u16", quantized({Quant::min_max, Type::u16}), 1);
    add("gradients/blockscale-i8", quantized({Quant::block_scale, Type::i8, 32, Scale::floating}), 1);
    add("gradients/blockscale-i4", quantized({Quant::block_scale, Type::i4, 32, Scale::floating}), 1);
    add("gradients/blockscale-i4-512-pow2", quantized({Quant::block_scale, Type::i4, 512, Scale::power_of_two}), 1);
    add("gradients/f32", bytes_of(floats(kTotal / 4, 0.001F, 1)), 4);
    add("weights/f32", weights(Type::f32), 4);
    add("weights/f32-unsplit", weights(Type::f32), 1);
    add("weights/bf16", weights(Type::bf16), 2);
    add("weights/f16", weights(Type::f16), 2);
    add("weights/f64-from-f32", weights(Type::f64), 8);
    add("zeros", Bytes(kTotal), 4);
    add("noise", noise(), 1);
}

}  // namespace
}  // namespace pccl::codec

int main(int argc, char **argv) {
    benchmark::Initialize(&argc, argv);
    pccl::codec::add_all();
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
