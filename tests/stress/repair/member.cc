// pccl-repair-member is one peer of a large average during which a member is killed. It waits until all have joined, averages
// once, checks every element, and prints the result as one line of JSON.
#include "common/elements.h"
#include "common/handles.h"
#include "common/participants.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace pccl;
using Clock = std::chrono::steady_clock;

struct Options {
    std::string master;
    int slot = 0;
    int peers = tools::kSlots;
    std::size_t bytes = std::size_t{1} << 30;
    std::string type = "float";
    std::string on_peer_loss = "repair";
    bool in_place = false;
};

void join(pcclComm_t *comm, int peers) {
    tools::require("pcclConnect", pcclConnect(comm));
    while (tools::attribute(comm, PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE) < peers) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        tools::require("pcclUpdateTopology", pcclUpdateTopology(comm));
    }
}

/// FNV-1a over words: equal bits at all members give equal numbers.
std::uint64_t hash(const std::vector<unsigned char> &data) {
    std::uint64_t sum = 14695981039346656037U;
    for (std::size_t i = 0; i + 8 <= data.size(); i += 8)
        sum = (sum ^ tools::load<std::uint64_t>(data.data(), i / 8)) * 1099511628211U;
    return sum;
}

int run(const Options &how) {
    tools::require("pcclInit", pcclInit());
    pcclCommConfig_t config{};
    tools::require("pcclCommConfigInit", pcclCommConfigInit(&config));
    config.compression = pcclCompressionOff;  // the test counts plain bytes
    config.master_address = how.master.c_str();
    pcclComm_t *handle = nullptr;
    tools::require("pcclCreateCommunicatorWithConfig", pcclCreateCommunicatorWithConfig(&config, &handle));
    const tools::Comm comm(handle);

    pcclReduceDescriptor_t d{};
    d.op = pcclAvg;
    d.src_descriptor.datatype = tools::type_named(how.type).value();
    d.count = how.bytes / tools::size_of(d.src_descriptor.datatype);
    std::vector<unsigned char> send(how.bytes), receive(how.in_place ? 0 : how.bytes);
    tools::fill_slot(how.slot, d.src_descriptor.datatype, send.data(), d.count);
    pcclReduceOptions_t options{};
    tools::require("pcclReduceOptionsInit", pcclReduceOptionsInit(&options));
    options.on_peer_loss = tools::loss_policy_named(how.on_peer_loss).value();
    pcclReduceReport_t report{};
    tools::require("pcclReduceReportInit", pcclReduceReportInit(&report));
    auto &result = how.in_place ? send : receive;

    join(comm.get(), how.peers);
    std::cout << "joined" << std::endl;
    const auto begin = Clock::now();
    std::uint64_t first_tx = 0, again_tx = 0;
    int attempts = 0;
    pcclResult_t outcome = pcclSuccess;
    do {
        outcome = pcclAllReduceWithOptions(send.data(), result.data(), &d, &options, comm.get(), &report);
        (attempts++ == 0 ? first_tx : again_tx) += report.tx_bytes;
    } while (outcome == pcclRankConnectionLost);
    tools::require("pcclAllReduce", outcome);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();

    const auto found = tools::check_participants(d.src_descriptor.datatype, result.data(), d.count);
    nlohmann::json answer = {{"seconds", seconds},
                             {"attempts", attempts},
                             {"tx_bytes", first_tx + again_tx},
                             {"again_bytes", again_tx + report.repair_tx_bytes},
                             {"peers", report.world_size},
                             {"repairs", report.repairs},
                             {"fewest", report.fewest_took_part},
                             {"fewest_elements", report.fewest_elements},
                             {"wrong", found.wrong},
                             {"hash", hash(result)},
                             {"participants", nlohmann::json::object()}};
    for (const auto &[mask, elements] : found.elements)
        answer["participants"][std::to_string(mask)] = elements;
    std::cout << answer.dump() << std::endl;
    return 0;
}

}  // namespace

int main(int argc, char **argv) {
    Options how;
    CLI::App app{"One peer of an average that loses a member.", "pccl-repair-member"};
    app.add_option("--master", how.master, "host:port")->required();
    app.add_option("--slot", how.slot, "number of this peer")->check(CLI::Range(0, tools::kSlots - 1));
    app.add_option("--peers", how.peers, "number of peers to wait for")
        ->check(CLI::Range(2, tools::kSlots))
        ->capture_default_str();
    app.add_option("--bytes", how.bytes, "of the buffer")->capture_default_str();
    app.add_option("--type", how.type, "element type")->capture_default_str();
    app.add_option("--on-peer-loss", how.on_peer_loss, "retry or repair")->capture_default_str();
    app.add_flag("--in-place", how.in_place);
    CLI11_PARSE(app, argc, argv);
    try {
        return run(how);
    } catch (const std::exception &error) {
        std::cerr << "pccl-repair-member " << how.slot << ": " << error.what() << '\n';
        return 1;
    }
}
