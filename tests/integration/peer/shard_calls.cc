// Calls about reduce-scatters and all-gathers. Both together must give the result of an all-reduce.
#include "common/elements.h"
#include "peer/inputs.h"
#include "peer/session.h"

#include <algorithm>

namespace pccl::itest {

namespace {

constexpr unsigned char kCanary = 0xa5;

tools::Case case_of(const pcclReduceDescriptor_t &d, const Json &request) {
    return {d.src_descriptor.datatype, d.op, tools::packing_named(request.value("quant", "none")).value(), d.count,
            request.value("ranks", 1), 0};
}

Json to_json(const pcclShard_t &shard) {
    return {{"first", shard.first},
            {"elements", shard.elements},
            {"membership", shard.membership},
            {"world", shard.world_size},
            {"rank", shard.rank}};
}

/// "shard": a shard returned by an earlier call; by default the current one.
pcclShard_t shard_of(Session &session, const Json &request) {
    pcclShard_t shard{};
    if (request.contains("shard")) {
        const Json &given = request.at("shard");
        return {given.at("first"), given.at("elements"), given.at("membership"), given.at("world"), given.at("rank")};
    }
    tools::require("pcclGetShard", pcclGetShard(session.comm(request), request.at("count").get<std::size_t>(), &shard));
    return shard;
}

/// The shard of a buffer of "count" elements.
Json call_shard(Session &session, const Json &request) {
    pcclShard_t shard{};
    const pcclResult_t result = pcclGetShard(session.comm(request), request.at("count").get<std::size_t>(), &shard);
    Json answer = answer_of(result);
    answer["shard"] = to_json(shard);
    return answer;
}

bool is_canary(const unsigned char *data, std::size_t bytes) {
    return std::all_of(data, data + bytes, [](unsigned char b) { return b == kCanary; });
}

/// A reduce-scatter and then an all-gather, both in place or both out of place.
struct Sharded {
    pcclReduceDescriptor_t d;
    pcclReduceOptions_t options;
    pcclShard_t shard;
    std::size_t size, offset;
    bool in_place;
    Bytes whole, part, result;
    std::uint64_t whole_hash = 0, part_hash = 0;
    pcclReduceReport_t scattered{}, gathered{};

    Sharded(Session &session, const Json &request)
        : d(descriptor_of(request)), options(options_of(request)), shard(shard_of(session, request)),
          size(tools::size_of(d.src_descriptor.datatype)), offset(request.value("offset", std::size_t{0})),
          in_place(request.value("in_place", false)) {
        whole.resize(offset + d.count * size);
        fill_input(request.value("pattern", "seeded"), case_of(d, request), request.value("rank", 0), whole_data());
        whole_hash = hash_bytes(whole_data(), d.count * size);
        tools::require("pcclReduceReportInit", pcclReduceReportInit(&scattered));
        tools::require("pcclReduceReportInit", pcclReduceReportInit(&gathered));
        if (in_place) return;
        part.assign(offset + shard.elements * size, kCanary);
        result.assign(offset + d.count * size, kCanary);
    }
    unsigned char *whole_data() { return whole.data() + offset; }
    unsigned char *part_data() { return in_place ? whole_data() + shard.first * size : part.data() + offset; }
    unsigned char *result_data() { return in_place ? whole_data() : result.data() + offset; }

    pcclResult_t scatter(pcclComm_t *comm) {
        const pcclResult_t code = pcclReduceScatter(whole_data(), part_data(), &d, &shard, &options, comm, &scattered);
        part_hash = hash_bytes(part_data(), shard.elements * size);
        return code;
    }
    pcclResult_t gather(pcclComm_t *comm) {
        return pcclAllGather(part_data(), result_data(), &d, &shard, &options, comm, &gathered);
    }
    bool whole_intact() { return hash_bytes(whole_data(), d.count * size) == whole_hash; }
    bool part_intact() { return hash_bytes(part_data(), shard.elements * size) == part_hash; }
};

/// The answer of both, or of the first that failed ("failed").
Json run(Session &session, const Json &request) {
    Sharded both(session, request);
    pcclComm_t *comm = session.comm(request);
    pcclResult_t code = both.scatter(comm);
    Json answer = answer_of(code);
    answer["shard"] = to_json(both.shard);
    if (code != pcclSuccess || !both.in_place) answer["send_intact"] = both.whole_intact();
    if (code != pcclSuccess) {
        answer["failed"] = "reduce-scatter";
        return answer;
    }
    answer["scattered_by"] = tools::name_of(both.scattered.algorithm);
    answer["scatter_tx"] = both.scattered.tx_bytes;
    code = both.gather(comm);
    answer.update(answer_of(code));
    if (code != pcclSuccess) {
        answer["failed"] = "all-gather";
        answer["part_intact"] = both.part_intact();
        answer["untouched"] = both.in_place || is_canary(both.result_data(), both.d.count * both.size);
        return answer;
    }
    answer["gathered_by"] = tools::name_of(both.gathered.algorithm);
    answer["gather_tx"] = both.gathered.tx_bytes;
    answer["peers"] = both.gathered.world_size;
    answer["hash"] = hash_bytes(both.result_data(), both.d.count * both.size);
    answer["own_bits"] = both.part_intact();
    const auto verdict = check_result(request.value("pattern", "seeded"), case_of(both.d, request), both.result_data());
    answer["wrong"] = verdict.wrong;
    answer["relative_error"] = verdict.relative_error;
    if (verdict.wrong > 0) answer["first_wrong"] = {verdict.first_wrong, verdict.expected, verdict.found};
    return answer;
}

/// Arguments: "shard" of an earlier call, "count", "type", "op", "tag", "in_place", "quant", "algorithm", "times".
Json call_sharded(Session &session, const Json &request) {
    Json answer;
    for (int i = 0; i < request.value("times", 1); ++i) {
        answer = run(session, request);
        if (answer.at("code") != 0 || answer.value("wrong", 0) != 0) break;
    }
    return answer;
}

/// Every type, operator and count of "counts", in place and out of place, at odd addresses.
Json call_sharded_matrix(Session &session, const Json &request) {
    Json failures = Json::array();
    std::uint64_t hash = 0;
    std::size_t cases = 0;
    for (const pcclDataType_t type : tools::kAllTypes) {
        for (const pcclRedOp_t op : tools::kAllOps) {
            for (const std::size_t count : request.at("counts").get<std::vector<std::size_t>>()) {
                for (const bool in_place : {false, true}) {
                    Json one = {{"count", count},
                                {"type", tools::name_of(type)},
                                {"op", tools::name_of(op)},
                                {"tag", cases % 7},
                                {"in_place", in_place},
                                {"offset", cases % 4 * 3},
                                {"rank", request.at("rank")},
                                {"ranks", request.at("ranks")},
                                {"algorithm", request.value("algorithm", "auto")}};
                    const Json answer = run(session, one);
                    ++cases;
                    const bool fine = answer.at("code") == 0 && answer.at("wrong") == 0 && answer.value("send_intact", true) &&
                                      answer.at("own_bits") == true && answer.at("peers") == request.at("ranks");
                    if (!fine) failures.push_back(one.dump() + ": " + answer.dump());
                    if (answer.at("code") != 0) {
                        Json out = answer;
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

/// Starts a reduce-scatter ("collective") or an all-gather of a constant ("value") that "await_part" ends; both name it by
/// "handle".
Json call_launch_part(Session &session, const Json &request) {
    const pcclReduceDescriptor_t d = descriptor_of(request);
    const pcclReduceOptions_t options = options_of(request);
    auto flight = std::make_unique<Flight>();
    flight->request = request;
    ShardBuffers &buffers = flight->shard_buffers;
    buffers.shard = shard_of(session, request);
    const std::size_t size = tools::size_of(d.src_descriptor.datatype);
    buffers.whole.assign(d.count * size, kCanary);
    buffers.part.assign(std::max<std::size_t>(1, buffers.shard.elements * size), kCanary);
    const bool scatters = request.at("collective") == "reduce-scatter";
    Bytes &given = scatters ? buffers.whole : buffers.part;
    std::ranges::fill(given, request.value("value", static_cast<unsigned char>(1)));
    buffers.given_hash = hash_bytes(given.data(), given.size());
    const auto start = scatters ? pcclReduceScatterAsync : pcclAllGatherAsync;
    const pcclResult_t result = start(given.data(), scatters ? buffers.part.data() : buffers.whole.data(), &d, &buffers.shard,
                                      &options, session.comm(request), &flight->handle);
    return keep(session, request, std::move(flight), result);
}

/// Answers "given_intact", and the byte of the result if all are the same ("all").
Json call_await_part(Session &session, const Json &request) {
    Flight &flight = flight_of(session, request);
    Json answer = answer_of(pcclAwaitAsyncReduceWithReport(&flight.handle, nullptr));
    const bool scatters = flight.request.at("collective") == "reduce-scatter";
    ShardBuffers &buffers = flight.shard_buffers;
    const Bytes &given = scatters ? buffers.whole : buffers.part, &got = scatters ? buffers.part : buffers.whole;
    answer["given_intact"] = hash_bytes(given.data(), given.size()) == buffers.given_hash;
    answer["all"] = std::ranges::all_of(got, [&](unsigned char b) { return b == got[0]; }) ? Json(got[0]) : Json();
    return answer;
}

}  // namespace

void add_shard_calls(CallTable &table) {
    table["shard"] = call_shard;
    table["sharded"] = call_sharded;
    table["sharded_matrix"] = call_sharded_matrix;
    table["launch_part"] = call_launch_part;
    table["await_part"] = call_await_part;
}

}  // namespace pccl::itest
