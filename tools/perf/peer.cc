// The measurement at one peer. Everything that decides how many calls are made is the same at all peers: the options, and values
// that were reduced over all of them.
#include "perf/peer.h"

#include "common/check.h"
#include "common/elements.h"
#include "common/handles.h"
#include "perf/report.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

namespace pccl::perf {

namespace {

using Clock = std::chrono::steady_clock;

/// Tags of the program's own small reduces; those that are measured count up from 0.
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
        throw std::runtime_error("the run has more peers than --peers says; give all of them the same number");
    if (options.optimize) tools::require("pcclOptimizeTopology", pcclOptimizeTopology(handle));
    return comm;
}

/// Ranks out of nothing but all-reduce: each peer draws a slot of a large table; once no two drew the same, ranks are the order
/// of the slots. All see the same table, so all agree on whether to draw again.
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

/// The buffers of one case, for all concurrent operations.
class Measurement {
public:
    Measurement(const Options &options, const pcclComm_t *comm, int rank, const tools::Case &what)
        : options_(options), comm_(comm), rank_(rank), what_(what) {
        const std::size_t bytes = what.count * tools::size_of(what.type);
        for (int i = 0; i < options.concurrent; ++i) {
            send_.emplace_back(bytes);
            if (!options.in_place) receive_.emplace_back(bytes);
        }
        fill();
    }

    /// One iteration; returns bytes sent.
    std::uint64_t iterate() {
        std::uint64_t sent = 0;
        pcclReduceInfo_t info{};
        if (options_.concurrent == 1) {
            const auto d = descriptor(0);
            tools::require("pcclAllReduce", pcclAllReduce(send_[0].data(), result(0), &d, comm_, &info));
            sent = info.tx_bytes;
        } else {
            std::vector<pcclAsyncReduceOp_t> handles(send_.size());
            for (std::size_t i = 0; i < send_.size(); ++i) {
                const auto d = descriptor(i);
                tools::require("pcclAllReduceAsync", pcclAllReduceAsync(send_[i].data(), result(i), &d, comm_, &handles[i]));
            }
            for (const pcclAsyncReduceOp_t &handle : handles) {
                tools::require("pcclAwaitAsyncReduce", pcclAwaitAsyncReduce(&handle, &info));
                sent += info.tx_bytes;
            }
        }
        if (static_cast<int>(info.local_world_size) != what_.ranks) {
            throw std::runtime_error("the number of peers changed from " + std::to_string(what_.ranks) + " to " +
                                     std::to_string(info.local_world_size) + " during the measurement; start again");
        }
        return sent;
    }

    /// One more iteration on fresh inputs, judged.
    tools::Verdict check() {
        fill();
        static_cast<void>(iterate());
        tools::Verdict total;
        for (std::size_t i = 0; i < send_.size(); ++i) {
            tools::Case what = what_;
            what.buffer = static_cast<int>(i);
            const tools::Verdict verdict = tools::check_result(what, result(i));
            if (verdict.wrong > 0 && total.wrong == 0) {
                std::fprintf(stderr,
                             "pccl-perf: peer %d: wrong result: %s %s of %zu elements, element %zu of buffer %zu: expected %.9g, "
                             "found %.9g\n",
                             rank_, tools::name_of(what.type), tools::name_of(what.op), what.count, verdict.first_wrong, i,
                             verdict.expected, verdict.found);
            }
            total.wrong += verdict.wrong;
            total.relative_error = std::max(total.relative_error, verdict.relative_error);
        }
        return total;
    }

private:
    const Options &options_;
    const pcclComm_t *comm_;
    int rank_;
    tools::Case what_;
    std::vector<std::vector<unsigned char>> send_;
    std::vector<std::vector<unsigned char>> receive_;

    void *result(std::size_t i) { return options_.in_place ? send_[i].data() : receive_[i].data(); }

    void fill() {
        for (std::size_t i = 0; i < send_.size(); ++i) {
            tools::Case what = what_;
            what.buffer = static_cast<int>(i);
            tools::fill_input(what, rank_, send_[i].data());
        }
    }

    pcclReduceDescriptor_t descriptor(std::size_t i) const {
        pcclReduceDescriptor_t d{};
        d.count = what_.count;
        d.op = what_.op;
        d.tag = i;
        d.src_descriptor.datatype = what_.type;
        d.quantization_options = what_.quantization;
        return d;
    }
};

double median(std::vector<double> &values) {
    const std::size_t middle = values.size() / 2;
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle), values.end());
    return values[middle];
}

Row measure(const Options &options, const pcclComm_t *comm, int rank, const tools::Case &what) {
    Measurement measurement(options, comm, rank, what);
    for (int i = 0; i < options.warm_up; ++i)
        static_cast<void>(measurement.iterate());
    static_cast<void>(reduce_value<std::uint64_t>(comm, pcclSum, 1));
    std::vector<double> times;
    Row row;
    for (int i = 0; i < options.iterations; ++i) {
        const auto begin = Clock::now();
        row.tx_bytes = measurement.iterate();
        times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    }
    row.count = what.count;
    row.bytes = what.count * tools::size_of(what.type);
    row.type = what.type;
    row.op = what.op;
    row.time_us = reduce_value(comm, pcclMax, median(times));
    row.algbw_gbs = static_cast<double>(row.bytes) * options.concurrent / (row.time_us * 1e3);
    row.busbw_gbs = row.algbw_gbs * 2 * (what.ranks - 1) / what.ranks;
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
                const tools::Case what{type, op, options.quantization, count, options.peers, 0};
                const Row row = measure(options, comm.get(), rank, what);
                wrong += row.wrong;
                report.add(row);
            }
        }
    }
    if (!report.end()) return 2;
    return wrong == 0 ? 0 : 1;
}

}  // namespace pccl::perf
