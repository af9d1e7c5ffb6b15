// Calls about reduces: blocking, asynchronous, several with retry, and the matrix of all types and operators.
#include "common/elements.h"
#include "peer/inputs.h"
#include "peer/session.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

namespace pccl::itest {

namespace {

constexpr unsigned char kCanary = 0xa5;

tools::Packing packing_of(const Json &request) { return tools::packing_named(request.value("quant", "none")).value(); }

pcclReduceReport_t empty_report() {
    pcclReduceReport_t report{};
    tools::require("pcclReduceReportInit", pcclReduceReportInit(&report));
    return report;
}

tools::Case case_of(const pcclReduceDescriptor_t &d, const Json &request) {
    return {d.src_descriptor.datatype, d.op, packing_of(request), d.count, request.value("ranks", 1), 0};
}

Buffers make_buffers(const pcclReduceDescriptor_t &d, const Json &request) {
    Buffers buffers;
    buffers.offset = request.value("offset", std::size_t{0});
    buffers.in_place = request.value("in_place", false);
    const std::size_t bytes = d.count * tools::size_of(d.src_descriptor.datatype);
    buffers.send.resize(buffers.offset + bytes);
    if (!buffers.in_place) buffers.receive.assign(buffers.offset + bytes, kCanary);
    fill_input(request.value("pattern", "seeded"), case_of(d, request), request.value("rank", 0), buffers.send_data());
    buffers.send_hash = hash_bytes(buffers.send_data(), bytes);
    return buffers;
}

/// The answer to a reduce that has ended.
Json reduce_answer(pcclResult_t result, const pcclReduceReport_t &report, Buffers &buffers, const Json &request) {
    Json answer = answer_of(result);
    const pcclReduceDescriptor_t d = descriptor_of(request);
    const std::size_t bytes = d.count * tools::size_of(d.src_descriptor.datatype);
    if (!buffers.in_place || result != pcclSuccess) {
        answer["send_intact"] = hash_bytes(buffers.send_data(), bytes) == buffers.send_hash;
    }
    if (result != pcclSuccess) {
        answer["receive_untouched"] =
            buffers.in_place || std::ranges::all_of(buffers.receive, [](auto b) { return b == kCanary; });
        return answer;
    }
    answer["peers"] = report.world_size;
    answer["tx"] = report.tx_bytes;
    answer["saved"] = report.saved_tx_bytes;
    answer["rx"] = report.rx_bytes;
    answer["algorithm"] = tools::name_of(report.algorithm);
    answer["lanes"] = report.lanes;
    answer["chunk_bytes"] = report.chunk_bytes;
    answer["hash"] = hash_bytes(buffers.receive_data(), bytes);
    answer["first"] = tools::visit_type(
        d.src_descriptor.datatype, [&](auto v) { return tools::to_double(tools::load<decltype(v)>(buffers.receive_data(), 0)); });
    if (request.contains("ranks")) {
        const auto verdict = check_result(request.value("pattern", "seeded"), case_of(d, request), buffers.receive_data());
        answer["wrong"] = verdict.wrong;
        answer["relative_error"] = verdict.relative_error;
        if (verdict.wrong > 0) answer["first_wrong"] = {verdict.first_wrong, verdict.expected, verdict.found};
    }
    return answer;
}

Json call_reduce(Session &session, const Json &request) {
    const pcclReduceDescriptor_t d = descriptor_of(request);
    const pcclReduceOptions_t options = options_of(request);
    Json answer;
    for (int i = 0; i < request.value("times", 1); ++i) {
        Buffers buffers = make_buffers(d, request);
        pcclReduceReport_t report = empty_report();
        const auto begin = std::chrono::steady_clock::now();
        const pcclResult_t result =
            pcclAllReduceWithOptions(buffers.send_data(), buffers.receive_data(), &d, &options, session.comm(request), &report);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        answer = reduce_answer(result, report, buffers, request);
        answer["seconds"] = took.count();
        if (result != pcclSuccess || answer.value("wrong", 0) != 0) break;
    }
    return answer;
}

/// Starts an operation that "await" ends; both name it by "handle". With "arena", buffers are parts of a named arena that
/// operations share.
Json call_launch(Session &session, const Json &request) {
    const pcclReduceDescriptor_t d = descriptor_of(request);
    auto flight = std::make_unique<Flight>();
    flight->request = request;
    void *send = nullptr;
    void *receive = nullptr;
    if (request.contains("arena")) {
        const std::scoped_lock lock(session.mutex);
        Bytes &arena = session.arenas[request.at("arena")];
        if (arena.empty()) arena.resize(std::size_t{64} << 20);
        send = arena.data() + request.at("send_at").get<std::size_t>();
        receive = arena.data() + request.at("receive_at").get<std::size_t>();
    } else {
        flight->buffers = make_buffers(d, request);
        send = flight->buffers.send_data();
        receive = flight->buffers.receive_data();
    }
    const pcclReduceOptions_t options = options_of(request);
    const pcclResult_t result =
        pcclAllReduceAsyncWithOptions(send, receive, &d, &options, session.comm(request), &flight->handle);
    return keep(session, request, std::move(flight), result);
}

/// Awaits an operation. The handle is kept, so that it can be awaited again.
Json call_await(Session &session, const Json &request) {
    Flight &flight = flight_of(session, request);
    pcclReduceReport_t report = empty_report();
    const pcclResult_t result = pcclAwaitAsyncReduceWithReport(&flight.handle, &report);
    if (flight.request.contains("arena")) return answer_of(result);
    return reduce_answer(result, report, flight.buffers, flight.request);
}

/// "count" sums of a few floats, each with a tag that was never used, "in_flight" of them at a time.
Json call_fresh_tags(Session &session, const Json &request) {
    const auto first = request.at("first").get<std::uint64_t>(), count = request.at("count").get<std::uint64_t>();
    const auto in_flight = request.at("in_flight").get<std::uint64_t>();
    std::vector<float> data(4 * in_flight, 1.0F);
    for (std::uint64_t step = 0; step < count; step += in_flight) {
        std::vector<pcclAsyncReduceOp_t> handles(std::min(in_flight, count - step));
        for (std::size_t i = 0; i < handles.size(); ++i) {
            pcclReduceDescriptor_t d{};
            d.count = 4;
            d.op = pcclMax;
            d.tag = (first + step + i) * 0x9e3779b97f4a7c15U;  // the factor is odd, so all tags are distinct
            d.src_descriptor.datatype = pcclFloat;
            const auto result = pcclAllReduceAsync(&data[4 * i], &data[4 * i], &d, session.comm(request), &handles[i]);
            if (result != pcclSuccess) return answer_of(result);
        }
        for (const auto &handle : handles) {
            const auto result = pcclAwaitAsyncReduce(&handle, nullptr);
            if (result != pcclSuccess) return answer_of(result);
        }
    }
    return answer_of(pcclSuccess);
}

/// pcclAllReduceMultipleWithRetry over "ops", one reduce request each. Answers with "results".
Json call_multiple(Session &session, const Json &request) {
    std::vector<Buffers> buffers;
    std::vector<pcclReduceOpDescriptor_t> ops;
    for (const Json &op : request.at("ops")) {
        const pcclReduceDescriptor_t d = descriptor_of(op);
        buffers.push_back(make_buffers(d, op));
        ops.push_back({buffers.back().send_data(), buffers.back().receive_data(), d});
    }
    pcclReduceInfo_t info{};
    const pcclResult_t result =
        pcclAllReduceMultipleWithRetry(ops.data(), ops.size(), session.comm(request), &info, request.value("max_in_flight", 4));
    Json answer = answer_of(result);
    answer["peers"] = info.local_world_size;
    answer["tx"] = info.tx_bytes;
    answer["results"] = Json::array();
    const pcclReduceReport_t report = empty_report();  // this call reports no single operation
    for (std::size_t i = 0; i < buffers.size(); ++i) {
        answer["results"].push_back(reduce_answer(result, report, buffers[i], request.at("ops")[i]));
    }
    return answer;
}

/// Sums over rounds of the results and of the expected values.
struct Accumulated {
    std::vector<double> found, expected;

    double relative_error() const {
        double error = 0, norm = 0;
        for (std::size_t i = 0; i < found.size(); ++i) {
            error += (found[i] - expected[i]) * (found[i] - expected[i]);
            norm += expected[i] * expected[i];
        }
        return std::sqrt(error / norm);
    }
};

/// One round of averages of floats, repeated until it succeeds. Counts failures.
pcclResult_t average(Session &session, const Json &request, std::vector<float> &data, int &lost) {
    const pcclReduceDescriptor_t d = descriptor_of(request);
    const pcclReduceOptions_t options = options_of(request);
    std::vector<float> out(data.size());
    pcclResult_t result = pcclSuccess;
    do {
        result = pcclAllReduceWithOptions(data.data(), out.data(), &d, &options, session.comm(request), nullptr);
        lost += result == pcclRankConnectionLost;
    } while (result == pcclRankConnectionLost);
    data = out;
    return result;
}

/// Makes "rounds" quantized averages with one tag, and then an average of zeros in 16 bits, which flushes the residual of error
/// feedback. Answers with the relative error of the sum over all rounds, before and after the flush. In "aborted_rounds" the last
/// rank aborts.
Json call_rounds(Session &session, const Json &request) {
    const pcclReduceDescriptor_t d = descriptor_of(request);
    Accumulated total{std::vector<double>(d.count), std::vector<double>(d.count)};
    int lost = 0;
    std::vector<float> data(d.count);
    for (int round = 0; round < request.at("rounds").get<int>(); ++round) {
        tools::Case what = case_of(d, request);
        what.buffer = round;
        for (int rank = 0; rank < what.ranks; ++rank) {
            tools::fill_input(what, rank, data.data());
            for (std::size_t i = 0; i < d.count; ++i)
                total.expected[i] += static_cast<double>(data[i]) / what.ranks;
        }
        tools::fill_input(what, request.at("rank"), data.data());
        const auto aborted = request.value("aborted_rounds", std::vector<int>());
        if (request.at("rank") == what.ranks - 1 && std::ranges::find(aborted, round) != aborted.end()) {
            std::this_thread::sleep_for(
                std::chrono::milliseconds(30));  // the others have called by then; an abort before that has the same outcome
            tools::require("pcclAbort", pcclAbort(session.comm(request)));
        }
        if (const auto result = average(session, request, data, lost); result != pcclSuccess) return answer_of(result);
        for (std::size_t i = 0; i < d.count; ++i)
            total.found[i] += data[i];
    }
    Json answer = answer_of(pcclSuccess);
    answer["error"] = "";
    answer["relative_error"] = total.relative_error();
    answer["lost"] = lost;
    answer["hash"] = hash_bytes(data.data(), d.count * sizeof(float));
    Json flush = request;
    flush["quant"] = "minmax:u16";
    std::ranges::fill(data, 0.0F);
    if (const auto result = average(session, flush, data, lost); result != pcclSuccess) return answer_of(result);
    for (std::size_t i = 0; i < d.count; ++i)
        total.found[i] += data[i];
    answer["flushed_error"] = total.relative_error();
    return answer;
}

Json call_drop_feedback(Session &session, const Json &request) {
    return answer_of(pcclDropErrorFeedback(session.comm(request), request.at("tag").get<std::uint64_t>()));
}

struct MatrixCase {
    pcclDataType_t type;
    pcclRedOp_t op;
    std::size_t count;
    bool in_place;
    std::string text() const {
        return std::string(tools::name_of(type)) + " " + tools::name_of(op) + " x" + std::to_string(count) +
               (in_place ? " in place" : "");
    }
};

/// Every type, operator and count of "counts", in place and out of place, at odd addresses. "hash" is over all results;
/// "failures" are texts.
Json call_matrix(Session &session, const Json &request) {
    const pcclReduceOptions_t options = options_of(request);
    Json failures = Json::array();
    std::uint64_t hash = 0;
    std::size_t cases = 0;
    for (const pcclDataType_t type : tools::kAllTypes) {
        for (const pcclRedOp_t op : tools::kAllOps) {
            for (const std::size_t count : request.at("counts").get<std::vector<std::size_t>>()) {
                for (const bool in_place : {false, true}) {
                    const MatrixCase what{type, op, count, in_place};
                    Json reduce = {
                        {"count", count},       {"type", tools::name_of(type)}, {"op", tools::name_of(op)},  {"tag", cases % 7},
                        {"in_place", in_place}, {"offset", cases % 4 * 3},      {"rank", request.at("rank")}};
                    const int ranks = request.at("ranks").get<int>();
                    // Only the first rank checks its result, since all ranks have the same bits.
                    const pcclReduceDescriptor_t d = descriptor_of(reduce);
                    reduce["ranks"] = ranks;
                    Buffers buffers = make_buffers(d, reduce);
                    if (request.at("rank") != 0) reduce.erase("ranks");
                    pcclReduceReport_t report = empty_report();
                    const auto result = pcclAllReduceWithOptions(buffers.send_data(), buffers.receive_data(), &d, &options,
                                                                 session.comm(request), &report);
                    const Json answer = reduce_answer(result, report, buffers, reduce);
                    ++cases;
                    const bool fine = result == pcclSuccess && answer.value("wrong", 0) == 0 &&
                                      answer.value("send_intact", true) && answer.at("peers") == ranks;
                    if (!fine) failures.push_back(what.text() + ": " + answer.dump());
                    if (result != pcclSuccess) {
                        Json out = answer_of(result);
                        out["failures"] = failures;
                        return out;
                    }
                    hash = hash * 31 + answer.at("hash").get<std::uint64_t>();
                }
            }
        }
    }
    Json answer = answer_of(pcclSuccess);
    answer["hash"] = hash;
    answer["cases"] = cases;
    answer["failures"] = failures;
    return answer;
}

}  // namespace

pcclReduceDescriptor_t descriptor_of(const Json &request) {
    pcclReduceDescriptor_t d{};
    d.count = request.at("count").get<std::size_t>();
    d.op = tools::op_named(request.value("op", "sum")).value();
    d.tag = request.value("tag", std::uint64_t{0});
    d.src_descriptor.datatype = tools::type_named(request.value("type", "float")).value();
    d.quantization_options = packing_of(request).quantization;
    return d;
}

pcclReduceOptions_t options_of(const Json &request) {
    pcclReduceOptions_t options{};
    tools::require("pcclReduceOptionsInit", pcclReduceOptionsInit(&options));
    options.quantization_block = packing_of(request).block;
    options.quantization_scale = packing_of(request).scale;
    options.error_feedback = request.value("error_feedback", false);
    options.algorithm = tools::algorithm_named(request.value("algorithm", "auto")).value();
    options.on_peer_loss = tools::loss_policy_named(request.value("fault", "retry")).value();
    return options;
}

void add_reduce_calls(CallTable &table) {
    table["reduce"] = call_reduce;
    table["launch"] = call_launch;
    table["fresh_tags"] = call_fresh_tags;
    table["await"] = call_await;
    table["multiple"] = call_multiple;
    table["matrix"] = call_matrix;
    table["rounds"] = call_rounds;
    table["drop_feedback"] = call_drop_feedback;
}

}  // namespace pccl::itest
