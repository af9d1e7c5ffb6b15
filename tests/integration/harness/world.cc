// See world.h.
#include "harness/world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

namespace pccl::itest {

World::World(const WorldOptions &options)
    : host_(options.host.find(':') == std::string::npos ? options.host : "[" + options.host + "]") {
    tools::require("pcclInit", pcclInit());
    elsewhere_ = options.master;
    if (!elsewhere_.empty()) return;
    pcclMasterConfig_t config{};
    tools::require("pcclMasterConfigInit", pcclMasterConfigInit(&config));
    const std::string listen = host_ + ":0";
    config.listen_address = listen.c_str();
    if (options.heartbeat_timeout_ms != 0) config.heartbeat_timeout_ms = options.heartbeat_timeout_ms;
    if (options.misuse_grace_ms != 0) config.misuse_grace_ms = options.misuse_grace_ms;
    config.remove_stragglers_after_ms = options.remove_stragglers_after_ms;
    master_ = tools::Master::start(config);
}

std::string World::master_address() const {
    return !elsewhere_.empty() ? elsewhere_ : host_ + ":" + std::to_string(master_.port);
}

/// The test's setting or, by default, that of the environment, so that every test can run with compression.
static int compression_of(const PeerOptions &options) {
    const char *all = std::getenv("PCCL_TEST_COMPRESSION");
    return options.compression == 0 && all ? std::atoi(all) : options.compression;
}

PeerProcess &World::spawn(const PeerOptions &options) {
    peers_.push_back(std::make_unique<PeerProcess>("peer" + std::to_string(spawned_++)));
    PeerProcess &peer = *peers_.back();
    tools::require("pcclInit in a peer", code(peer.call("init")));
    const Json answer = peer.call("create", {{"master", master_address()},
                                             {"group", options.group},
                                             {"lanes", options.lanes},
                                             {"port", options.port},
                                             {"compression", compression_of(options)},
                                             {"master_limit_ms", options.master_limit_ms},
                                             {"advertise", options.advertise}});
    tools::require("pcclCreateCommunicatorWithConfig in a peer", code(answer));
    return peer;
}

void World::join(int count, const PeerOptions &options) {
    for (int i = 0; i < count; ++i)
        spawn(options);
    join_all(static_cast<int>(peers_.size()));
}

void World::join_all(int world) {
    for (const Json &answer : call_all("join", {{"world", world}})) {
        if (code(answer) != pcclSuccess) throw std::runtime_error("join failed: " + answer.dump());
    }
}

std::vector<Json> World::call_all(const std::string &call, const Json &arguments, Millis limit) {
    return call_each(call, std::vector<Json>(peers_.size(), arguments), limit);
}

std::vector<Json> World::call_each(const std::string &call, const std::vector<Json> &arguments, Millis limit) {
    std::vector<int> numbers;
    for (std::size_t i = 0; i < peers_.size(); ++i)
        numbers.push_back(peers_[i]->start(call, arguments.at(i)));
    std::vector<Json> answers;
    for (std::size_t i = 0; i < peers_.size(); ++i)
        answers.push_back(peers_[i]->finish(numbers[i], limit));
    return answers;
}

std::uint16_t free_port() {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t length = sizeof address;
    std::uint16_t port = 0;
    if (::bind(socket, reinterpret_cast<sockaddr *>(&address), length) == 0 &&
        ::getsockname(socket, reinterpret_cast<sockaddr *>(&address), &length) == 0) {
        port = ntohs(address.sin_port);
    }
    ::close(socket);
    return port;
}

::testing::AssertionResult has_code(const Json &answer, pcclResult_t expected) {
    if (code(answer) == expected) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "expected '" << pcclGetErrorString(expected) << "', got '"
                                         << pcclGetErrorString(code(answer)) << "': " << answer.dump();
}

::testing::AssertionResult all_have_code(const std::vector<Json> &answers, pcclResult_t expected) {
    for (std::size_t i = 0; i < answers.size(); ++i) {
        if (const auto result = has_code(answers[i], expected); !result) {
            return ::testing::AssertionFailure() << "peer " << i << ": " << result.message();
        }
    }
    return ::testing::AssertionSuccess();
}

::testing::AssertionResult all_same(const std::vector<Json> &answers, const char *key) {
    if (const auto result = all_have_code(answers, pcclSuccess); !result) return result;
    for (std::size_t i = 1; i < answers.size(); ++i) {
        if (answers[i].at(key) != answers[0].at(key)) {
            return ::testing::AssertionFailure()
                   << key << " differs: peer 0 " << answers[0].at(key) << ", peer " << i << " " << answers[i].at(key);
        }
    }
    return ::testing::AssertionSuccess();
}

}  // namespace pccl::itest
