// Calls about membership.
#include "peer/session.h"

#include <chrono>
#include <fstream>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace pccl::itest {

namespace {

Json call_init(Session &, const Json &) { return answer_of(pcclInit()); }

Json call_create(Session &session, const Json &request) {
    pcclCommConfig_t config{};
    tools::require("pcclCommConfigInit", pcclCommConfigInit(&config));
    const std::string master = request.at("master");
    const std::string listen = request.value("listen", "");
    const std::string advertise = request.value("advertise", "");
    config.master_address = master.c_str();
    config.peer_group = request.value("group", 0U);
    config.p2p_connection_pool_size = request.value("lanes", 0U);
    config.listen_port_first = config.listen_port_last = request.value("port", std::uint16_t{0});
    config.compression = static_cast<pcclCompression_t>(request.value("compression", 0));
    config.master_limit_ms = request.value("master_limit_ms", 0U);
    if (!listen.empty()) config.listen_address = listen.c_str();
    if (!advertise.empty()) config.advertise_address = advertise.c_str();
    pcclComm_t *comm = nullptr;
    const pcclResult_t result = pcclCreateCommunicatorWithConfig(&config, &comm);
    if (result == pcclSuccess) {
        const std::scoped_lock lock(session.mutex);
        session.comms[request.value("comm", 0)].reset(comm);
    }
    return answer_of(result);
}

Json call_destroy(Session &session, const Json &request) {
    pcclComm_t *comm = nullptr;
    {
        const std::scoped_lock lock(session.mutex);
        comm = session.comms[request.value("comm", 0)].release();
    }
    return answer_of(pcclDestroyCommunicator(comm));
}

Json with_sizes(const pcclComm_t *comm, pcclResult_t result) {
    Json answer = answer_of(result);
    int value = 0;
    if (pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &value) == pcclSuccess) answer["world"] = value;
    if (pcclGetAttribute(comm, PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE, &value) == pcclSuccess) answer["group_world"] = value;
    if (pcclGetAttribute(comm, PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS, &value) == pcclSuccess) answer["groups"] = value;
    if (pcclGetAttribute(comm, PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE, &value) == pcclSuccess) answer["largest"] = value;
    return answer;
}

Json call_connect(Session &session, const Json &request) {
    pcclComm_t *comm = session.comm(request);
    return with_sizes(comm, pcclConnect(comm));
}
Json call_update(Session &session, const Json &request) {
    pcclComm_t *comm = session.comm(request);
    return with_sizes(comm, pcclUpdateTopology(comm));
}
Json call_optimize(Session &session, const Json &request) { return answer_of(pcclOptimizeTopology(session.comm(request))); }
Json call_abort(Session &session, const Json &request) { return answer_of(pcclAbort(session.comm(request))); }
Json call_attributes(Session &session, const Json &request) { return with_sizes(session.comm(request), pcclSuccess); }

/// Asks `times` times. Returns the answers as one string of 0 and 1.
Json call_pending(Session &session, const Json &request) {
    std::string answers;
    pcclResult_t result = pcclSuccess;
    for (int i = 0; i < request.value("times", 1) && result == pcclSuccess; ++i) {
        bool pending = false;
        result = pcclArePeersPending(session.comm(request), &pending);
        answers += pending ? '1' : '0';
    }
    Json answer = answer_of(result);
    answer["pending"] = answers;
    return answer;
}

/// Connects if necessary, and updates the topology until the run has `world` peers.
Json call_join(Session &session, const Json &request) {
    pcclComm_t *comm = session.comm(request);
    int size = 0;
    if (pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size) != pcclSuccess) {
        tools::require("pcclConnect", pcclConnect(comm));
        size = tools::attribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE);
    }
    while (size < request.at("world").get<int>()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        tools::require("pcclUpdateTopology", pcclUpdateTopology(comm));
        size = tools::attribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE);
    }
    return with_sizes(comm, pcclSuccess);
}

/// The largest resident set so far and the current one, in bytes.
Json call_memory(Session &, const Json &) {
    std::ifstream status("/proc/self/status");
    Json answer = answer_of(pcclSuccess);
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmHWM:")) answer["peak"] = std::stoull(line.substr(6)) * 1024;
        if (line.starts_with("VmRSS:")) answer["now"] = std::stoull(line.substr(6)) * 1024;
    }
    return answer;
}

/// "files": the number of further files that can be opened. "memory": the number of further bytes that can be mapped. 0 or
/// more; without a field there is no limit.
Json call_limit(Session &, const Json &request) {
    const auto set = [](auto resource, bool wanted, std::uint64_t value) {
        rlimit limit{};
        if (::getrlimit(resource, &limit) != 0) return;
        limit.rlim_cur = wanted ? std::min<rlim_t>(value, limit.rlim_max) : limit.rlim_max;
        ::setrlimit(resource, &limit);
    };
    std::uint64_t mapped = 0;
    std::ifstream("/proc/self/statm") >> mapped;
    // The limit is the lowest number that is not given out. Numbers below the open ones are free, so they are used up first.
    const int lowest = ::dup(0);
    ::close(lowest);
    set(RLIMIT_NOFILE, request.contains("files"), static_cast<std::uint64_t>(lowest) + request.value("files", std::uint64_t{0}));
    set(RLIMIT_AS, request.contains("memory"),
        mapped * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) + request.value("memory", std::uint64_t{0}));
    return answer_of(pcclSuccess);
}

/// Sets the send buffers of the connections to other peers, which listen at "port", to "bytes".
Json call_send_buffers(Session &, const Json &request) {
    const auto peers_port = request.at("port").get<std::uint16_t>();
    const int bytes = request.at("bytes");
    int changed = 0;
    for (int file = 0; file < static_cast<int>(::sysconf(_SC_OPEN_MAX)) && file < 4096; ++file) {
        const auto is_with_a_peer = [&](auto name) {
            sockaddr_in6 end{};  // the port has the same place as in an IPv4 address
            socklen_t length = sizeof end;
            if (name(file, reinterpret_cast<sockaddr *>(&end), &length) != 0) return false;
            return (end.sin6_family == AF_INET || end.sin6_family == AF_INET6) && ntohs(end.sin6_port) == peers_port;
        };
        if (!is_with_a_peer(::getpeername) && !is_with_a_peer(::getsockname)) continue;
        changed += ::setsockopt(file, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0;
    }
    Json answer = answer_of(pcclSuccess);
    answer["changed"] = changed;
    return answer;
}

}  // namespace

void add_comm_calls(CallTable &table) {
    table["init"] = call_init;
    table["create"] = call_create;
    table["destroy"] = call_destroy;
    table["connect"] = call_connect;
    table["update"] = call_update;
    table["optimize"] = call_optimize;
    table["abort"] = call_abort;
    table["attributes"] = call_attributes;
    table["pending"] = call_pending;
    table["join"] = call_join;
    table["memory"] = call_memory;
    table["limit"] = call_limit;
    table["send_buffers"] = call_send_buffers;
}

}  // namespace pccl::itest
