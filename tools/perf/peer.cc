// The measurement at one peer. All peers must make the same number of calls, so only the options and values that were reduced
// over all peers decide this number.
#include "perf/peer.h"

#include "common/elements.h"
#include "common/handles.h"
#include "perf/measurement.h"
#include "perf/report.h"
#include "perf/usage.h"
#include "perf/warm_up.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

namespace pccl::perf {

namespace {

using Clock = std::chrono::steady_clock;

/// Tags of the program's own small reduces. The tags of measured operations begin at 0.
constexpr std::uint64_t kControlTag = std::uint64_t{1} << 62;

template <typename T> constexpr pcclDataType_t type_of();
template <> constexpr pcclDataType_t type_of<std::uint8_t>() { return pcclUint8; }
template <> constexpr pcclDataType_t type_of<std::uint64_t>() { return pcclUint64; }
template <> constexpr pcclDataType_t type_of<double>() { return pcclDouble; }

/// Reduces a few values among all peers; also serves as a barrier.
template <typename T> void reduce_values(const pcclComm_t *comm, pcclRedOp_t op, std::vector<T> &values) {
    pcclReduceDescriptor_t descriptor{};
    descriptor.count = values.size();
    descriptor.op = op;
    descriptor.tag = kControlTag;
    descriptor.src_descriptor.datatype = type_of<T>();
    tools::require("pcclAllReduce", pcclAllReduce(values.data(), values.data(), &descriptor, comm, nullptr));
}
template <typename T> T reduce_value(const pcclComm_t *comm, pcclRedOp_t op, T value) {
    std::vector<T> values{value};
    reduce_values(comm, op, values);
    return values[0];
}

tools::Comm join(const Options &options) {
    pcclCommConfig_t config{};
    tools::require("pcclCommConfigInit", pcclCommConfigInit(&config));
    config.master_address = options.master.c_str();
    config.p2p_connection_pool_size = options.lanes;
    if (!options.congestion.empty()) config.congestion_control = options.congestion.c_str();
    config.compression = static_cast<pcclCompression_t>(options.compression);
    pcclComm_t *handle = nullptr;
    tools::require("pcclCreateCommunicatorWithConfig", pcclCreateCommunicatorWithConfig(&config, &handle));
    tools::Comm comm(handle);
    tools::require("pcclConnect", pcclConnect(handle));
    const auto end = Clock::now() + std::chrono::seconds(options.join_timeout_s);
    int size = tools::attribute(handle, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE);
    while (size < options.peers) {
        if (Clock::now() > end) {
            throw std::runtime_error("only " + std::to_string(size) + " of " + std::to_string(options.peers) +
                                     " peers joined in time; start the others, or raise --join-timeout");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        tools::require("pcclUpdateTopology", pcclUpdateTopology(handle));
        size = tools::attribute(handle, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE);
    }
    if (size > options.peers)
        throw std::runtime_error("the run has more peers than --peers. Pass the same number to all of them");
    if (options.optimize) tools::require("pcclOptimizeTopology", pcclOptimizeTopology(handle));
    return comm;
}

/// Assigns ranks with all-reduce only. Each peer draws a slot of a large table. When no two drew the same slot, the order of
/// slots is the order of ranks. All peers see the same table, so all agree on whether to draw again.
int agree_on_rank(const pcclComm_t *comm, int peers) {
    const auto slots = static_cast<std::size_t>(peers) * static_cast<std::size_t>(peers) * 16;
    std::random_device random;
    while (true) {
        const std::size_t mine = random() % slots;
        std::vector<std::uint8_t> table(slots, 0);
        table[mine] = 1;
        reduce_values(comm, pcclSum, table);
        if (std::ranges::any_of(table, [](std::uint8_t drawn) { return drawn > 1; })) continue;
        return static_cast<int>(std::count(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(mine), 1));
    }
}

double median(std::vector<double> &values) {
    const std::size_t middle = values.size() / 2;
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle), values.end());
    return values[middle];
}

/// Runs one iteration and returns its time in microseconds.
double timed(Measurement &measurement, Iteration &what) {
    const auto begin = Clock::now();
    what = measurement.iterate();
    return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

/// Iterates until the times are stable at every peer. All peers make the same number of calls. Returns that number.
int warm_up(const Options &options, const pcclComm_t *comm, Measurement &measurement) {
    WarmUp times;
    Iteration ignored;
    const auto unsettled = [&] { return reduce_value<std::uint8_t>(comm, pcclMax, times.settled() ? 0 : 1) != 0; };
    if (options.warm_up >= 0) {
        while (times.iterations() < options.warm_up)
            times.add(timed(measurement, ignored));
        static_cast<void>(reduce_value<std::uint8_t>(comm, pcclMax, 0));  // a barrier, so that all peers begin at the same time
        return times.iterations();
    }
    do
        times.add(timed(measurement, ignored));
    while (times.iterations() < WarmUp::kLeast || unsettled());
    return times.iterations();
}

/// Returns one value per peer, in rank order.
std::vector<double> gather(const pcclComm_t *comm, int rank, int peers, double mine) {
    std::vector<double> values(static_cast<std::size_t>(peers), 0);
    values[static_cast<std::size_t>(rank)] = mine;
    reduce_values(comm, pcclSum, values);
    return values;
}

Row measure(const Options &options, const pcclComm_t *comm, int rank, const tools::Case &what, std::uint64_t resident_at_start) {
    Measurement measurement(options, comm, rank, what);
    const bool peak_is_known = reset_peak();
    Row row;
    row.warm_up = warm_up(options, comm, measurement);
    std::vector<double> times;
    const double cpu_before = cpu_seconds();
    for (int i = 0; i < options.iterations; ++i)
        times.push_back(timed(measurement, row.iteration));
    const double cpu_s = (cpu_seconds() - cpu_before) / options.iterations;
    const double beyond = static_cast<double>(peak_bytes()) - static_cast<double>(resident_at_start + measurement.buffer_bytes());
    row.count = what.count;
    row.bytes = what.count * tools::size_of(what.type);
    row.type = what.type;
    row.op = what.op;
    row.time_us = reduce_value(comm, pcclMax, median(times));
    row.algbw_gbs = static_cast<double>(row.bytes) * options.concurrent / (row.time_us * 1e3);
    const bool half = options.collective == Collective::reduce_scatter || options.collective == Collective::all_gather;
    row.busbw_gbs = row.algbw_gbs * (half ? 1 : 2) * (what.ranks - 1) / what.ranks;
    row.cpu_s = gather(comm, rank, what.ranks, cpu_s);
    row.cpu_s_per_gb =
        std::accumulate(row.cpu_s.begin(), row.cpu_s.end(), 0.0) / (static_cast<double>(row.bytes) * options.concurrent / 1e9);
    row.memory_bytes = gather(comm, rank, what.ranks, peak_is_known ? std::max(0.0, beyond) : std::nan(""));
    if (options.check) {
        const tools::Verdict verdict = measurement.check();
        row.checked = true;
        row.wrong = reduce_value<std::uint64_t>(comm, pcclSum, verdict.wrong);
        row.relative_error = reduce_value(comm, pcclMax, verdict.relative_error);
    }
    return row;
}

}  // namespace

int run_peer(const Options &options) {
    const std::uint64_t resident_at_start = resident_bytes();
    tools::require("pcclInit", pcclInit());
    const tools::Comm comm = join(options);
    const int rank = options.index >= 0 ? options.index : agree_on_rank(comm.get(), options.peers);
    Report report(options, rank == 0);
    report.begin();
    std::uint64_t wrong = 0;
    for (const pcclDataType_t type : options.types) {
        for (const pcclRedOp_t op : options.ops) {
            for (const std::size_t bytes : options.sizes()) {
                const std::size_t count = std::max<std::size_t>(1, bytes / tools::size_of(type));
                const tools::Case what{type, op, options.packing, count, options.peers, 0};
                const Row row = measure(options, comm.get(), rank, what, resident_at_start);
                wrong += row.wrong;
                report.add(row);
            }
        }
    }
    if (!report.end()) return 2;
    return wrong == 0 ? 0 : 1;
}

}  // namespace pccl::perf
