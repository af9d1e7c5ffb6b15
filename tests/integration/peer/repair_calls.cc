// Averages that are repaired when members are lost. A member that dies does so at a certain element, not at a certain time.
#include "common/elements.h"
#include "common/participants.h"
#include "peer/inputs.h"
#include "peer/session.h"

#include <stdexcept>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

namespace pccl::itest {

namespace {

/// Makes the page of the element read-only, so that the library's first write to it kills this process.
void die_at(unsigned char *element) {
    const rlimit no_core{0, 0};
    static_cast<void>(::setrlimit(RLIMIT_CORE, &no_core));
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    auto *const start = reinterpret_cast<void *>(reinterpret_cast<std::uintptr_t>(element) / page * page);
    if (::mprotect(start, page, PROT_READ) != 0) throw std::runtime_error("cannot protect a page");
}

/// One average of the contribution of "slot". "die_at": the process dies when the element at that part of the buffer, 0 to 1,
/// becomes final here. Out of place, this member must complete the element: others are written by a system call, which fails
/// without killing the process.
Json call_average(Session &session, const Json &request) {
    pcclReduceDescriptor_t d{};
    d.count = request.at("count").get<std::size_t>();
    d.op = pcclAvg;
    d.tag = request.value("tag", std::uint64_t{0});
    d.src_descriptor.datatype = tools::type_named(request.value("type", "float")).value();
    const std::size_t size = tools::size_of(d.src_descriptor.datatype);
    const bool in_place = request.value("in_place", false);
    Bytes send(d.count * size), receive(in_place ? 0 : send.size());
    tools::fill_slot(request.at("slot"), d.src_descriptor.datatype, send.data(), d.count);
    unsigned char *const result = in_place ? send.data() : receive.data();
    const std::uint64_t send_hash = hash_bytes(send.data(), send.size());
    if (request.contains("die_at")) {
        die_at(result + static_cast<std::size_t>(request.at("die_at").get<double>() * static_cast<double>(d.count)) * size);
    }

    const pcclReduceOptions_t options = options_of(request);
    pcclReduceReport_t report{};
    tools::require("pcclReduceReportInit", pcclReduceReportInit(&report));
    pcclResult_t outcome = pcclSuccess;
    if (request.value("async", false)) {
        pcclAsyncReduceOp_t handle{};
        tools::require("pcclAllReduceAsyncWithOptions",
                       pcclAllReduceAsyncWithOptions(send.data(), result, &d, &options, session.comm(request), &handle));
        outcome = pcclAwaitAsyncReduceWithReport(&handle, &report);
    } else {
        outcome = pcclAllReduceWithOptions(send.data(), result, &d, &options, session.comm(request), &report);
    }
    Json answer = answer_of(outcome);
    answer["send_intact"] = hash_bytes(send.data(), send.size()) == send_hash;
    if (outcome != pcclSuccess) return answer;
    const auto found = tools::check_participants(d.src_descriptor.datatype, result, d.count);
    answer["wrong"] = found.wrong;
    if (found.wrong > 0) answer["first_wrong"] = {found.first_wrong, found.found};
    answer["participants"] = Json::object();
    for (const auto &[mask, elements] : found.elements)
        answer["participants"][std::to_string(mask)] = elements;
    answer["hash"] = hash_bytes(result, d.count * size);
    answer["peers"] = report.world_size;
    answer["repairs"] = report.repairs;
    answer["fewest"] = report.fewest_took_part;
    answer["fewest_elements"] = report.fewest_elements;
    answer["tx"] = report.tx_bytes;
    answer["repair_tx"] = report.repair_tx_bytes;
    answer["algorithm"] = tools::name_of(report.algorithm);
    return answer;
}

}  // namespace

void add_repair_calls(CallTable &table) { table["average"] = call_average; }

}  // namespace pccl::itest
