// The loop that trainers run: admit newcomers, reduce, continue after losses. Contributions encode their members, so that every
// sum can be checked for any set of contributors. Every outcome is logged to a file that survives SIGKILL.
#include "common/membership_sum.h"
#include "peer/session.h"

#include <chrono>
#include <fcntl.h>
#include <random>
#include <thread>
#include <unistd.h>

namespace pccl::itest {

namespace {

/// A line of the log: "ok FINGERPRINT MEMBERS" or "lost".
class OutcomeLog {
public:
    explicit OutcomeLog(const std::string &path)
        : file_(path.empty() ? -1 : ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {}
    ~OutcomeLog() {
        if (file_ >= 0) ::close(file_);
    }
    OutcomeLog(const OutcomeLog &) = delete;
    OutcomeLog &operator=(const OutcomeLog &) = delete;
    void add(const std::string &line) {
        if (file_ >= 0 && ::write(file_, (line + "\n").data(), line.size() + 1) < 0)
            throw std::runtime_error("cannot write the log");
    }

private:
    int file_;
};

struct LoopState {
    std::mt19937_64 random{std::random_device{}()};
    bool admits = false;  ///< false in the first step: the members that admitted this peer have already voted
    std::uint64_t members = 0;
    std::uint64_t good = 0;
    std::uint64_t lost = 0;
    std::uint64_t alone = 0;
    std::vector<double> updates_ms;  ///< the duration of each pcclUpdateTopology
};

void admit_newcomers(pcclComm_t *comm, LoopState &state) {
    bool pending = false;
    const pcclResult_t asked = pcclArePeersPending(comm, &pending);
    if (asked == pcclRankConnectionLost) return;
    tools::require("pcclArePeersPending", asked);
    if (!pending) return;
    const auto begin = std::chrono::steady_clock::now();
    const pcclResult_t updated = pcclUpdateTopology(comm);
    state.updates_ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    if (updated != pcclRankConnectionLost && updated != pcclUpdateTopologyFailed) tools::require("pcclUpdateTopology", updated);
}

/// Computes the sums over all members, with "sharded" by reduce-scatter and all-gather.
pcclResult_t sum(pcclComm_t *comm, const Json &request, std::vector<std::uint64_t> &send, std::vector<std::uint64_t> &receive) {
    pcclReduceDescriptor_t d{};
    d.count = send.size();
    d.tag = 1;
    d.src_descriptor.datatype = pcclUint64;
    const pcclReduceOptions_t options = options_of(request);
    if (!request.value("sharded", false))
        return pcclAllReduceWithOptions(send.data(), receive.data(), &d, &options, comm, nullptr);
    pcclShard_t shard{};
    tools::require("pcclGetShard", pcclGetShard(comm, d.count, &shard));
    std::vector<std::uint64_t> part(&send == &receive ? 0 : shard.elements);
    std::uint64_t *const mine = &send == &receive ? receive.data() + shard.first : part.data();
    const pcclResult_t scattered = pcclReduceScatter(send.data(), mine, &d, &shard, &options, comm, nullptr);
    return scattered == pcclSuccess ? pcclAllGather(mine, receive.data(), &d, &shard, &options, comm, nullptr) : scattered;
}

/// Makes one step. Returns false when the members have voted to end.
bool step(Session &session, const Json &request, LoopState &state, OutcomeLog &log, std::vector<std::uint64_t> &send,
          std::vector<std::uint64_t> &receive) {
    pcclComm_t *comm = session.comm(request);
    if (state.admits) admit_newcomers(comm, state);
    state.admits = true;
    const tools::Contribution own{request.at("slot").get<int>(), 0, state.random() >> 8, session.stop ? 1U : 0U};
    tools::fill_membership(own, send.data(), send.size());
    auto &sums = request.value("in_place", false) ? send : receive;
    const pcclResult_t result = sum(comm, request, send, sums);
    if (result == pcclTooFewPeers) {
        ++state.alone;
        state.members = 0;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return !session.stop;
    }
    if (result == pcclRankConnectionLost) {
        ++state.lost;
        log.add("lost");
        return true;
    }
    tools::require("pcclAllReduce", result);
    const tools::MembershipSum found = tools::check_membership(0, sums.data(), sums.size());
    if (found.wrong > 0 || (found.members >> own.slot & 1) == 0) {
        throw std::runtime_error("wrong sum: " + std::to_string(found.wrong) + " elements, members " +
                                 std::to_string(found.members));
    }
    ++state.good;
    log.add("ok " + std::to_string(found.digest) + " " + std::to_string(found.members));
    if (found.members != state.members) {
        state.members = found.members;
        session.emit({{"event", "members"}, {"members", found.members}});
    }
    return found.votes == 0;
}

/// Runs until "stop_loop" is called at one of the members. Arguments: "slot", "count", "log" (a path), "in_place", "algorithm",
/// "sharded".
Json call_loop(Session &session, const Json &request) {
    OutcomeLog log(request.value("log", ""));
    std::vector<std::uint64_t> send(request.value("count", std::size_t{32768}));
    std::vector<std::uint64_t> receive(send.size());
    LoopState state;
    session.stop = false;
    while (step(session, request, state, log, send, receive)) {
    }
    Json answer = answer_of(pcclSuccess);
    answer["good"] = state.good;
    answer["lost"] = state.lost;
    answer["alone"] = state.alone;
    answer["updates_ms"] = state.updates_ms;
    return answer;
}

Json call_stop_loop(Session &session, const Json &) {
    session.stop = true;
    return answer_of(pcclSuccess);
}

}  // namespace

void add_loop_calls(CallTable &table) {
    table["loop"] = call_loop;
    table["stop_loop"] = call_stop_loop;
}

}  // namespace pccl::itest
