// Calls about messages between peers: single ones, and a loop that passes on an amount which must be conserved.
#include "peer/inputs.h"
#include "peer/session.h"

#include <pccl/exchange.h>

#include <chrono>
#include <cstring>
#include <deque>
#include <mutex>
#include <netinet/in.h>
#include <random>
#include <sys/socket.h>
#include <thread>

namespace pccl::itest {

namespace {

constexpr std::uint64_t kGossipTag = 77;

std::string name_of(const pcclPeerId_t &rank) {
    std::string text;
    for (const std::uint8_t byte : rank.data) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

pcclPeerId_t rank_named(const std::string &text) {
    pcclPeerId_t rank{};
    for (std::size_t i = 0; i < sizeof rank.data; ++i)
        rank.data[i] = static_cast<std::uint8_t>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
    return rank;
}

Bytes content(std::uint64_t seed, std::size_t bytes) {
    Bytes data(bytes);
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
        const std::uint64_t word = random();
        std::memcpy(data.data() + i, &word, 8);
    }
    return data;
}

/// A message in flight.
struct Sent {
    pcclPostOp_t handle{};
    Bytes data;
    std::string to;
    std::uint64_t amount = 0;
};

struct Posts {
    std::mutex mutex;
    std::map<std::string, std::unique_ptr<Sent>> named;
} posts;

Json call_rank(Session &session, const Json &request) {
    pcclPeerId_t rank{};
    Json answer = answer_of(pcclGetPeerId(session.comm(request), &rank));
    answer["rank"] = name_of(rank);
    return answer;
}

std::vector<pcclPeerId_t> members_of(const pcclComm_t *comm) {
    std::vector<pcclPeerId_t> members(64);
    std::size_t count = 0;
    if (pcclGetMembers(comm, members.data(), members.size(), &count, nullptr) != pcclSuccess) count = 0;
    members.resize(std::min(count, members.size()));
    return members;
}

Json call_members(Session &session, const Json &request) {
    std::uint64_t epoch = 0;
    Json answer = answer_of(pcclGetMembers(session.comm(request), nullptr, 0, nullptr, &epoch));
    answer["epoch"] = epoch;
    answer["members"] = Json::array();
    for (const auto &rank : members_of(session.comm(request)))
        answer["members"].push_back(name_of(rank));
    return answer;
}

/// "kind", "degree", "seed".
Json call_set_graph(Session &session, const Json &request) {
    const pcclGraphOptions_t options{static_cast<pcclGraphKind_t>(request.value("kind", 0)), request.value("degree", 0U),
                                     request.value("seed", std::uint64_t{0})};
    return answer_of(pcclSetNeighbourGraph(session.comm(request), &options));
}

Json call_neighbours(Session &session, const Json &request) {
    std::vector<pcclPeerId_t> ranks(64);
    std::size_t count = 0;
    std::uint64_t epoch = 0;
    Json answer = answer_of(pcclGetNeighbours(session.comm(request), ranks.data(), ranks.size(), &count, &epoch));
    answer["epoch"] = epoch;
    answer["neighbours"] = Json::array();
    for (std::size_t i = 0; i < count; ++i)
        answer["neighbours"].push_back(name_of(ranks[i]));
    return answer;
}

/// "to", "tag", "bytes", "seed", "timeout_ms"; "post": its name for await_post.
Json call_post(Session &session, const Json &request) {
    auto sent = std::make_unique<Sent>();
    sent->data = content(request.value("seed", std::uint64_t{0}), request.value("bytes", std::size_t{0}));
    const pcclPeerId_t to = rank_named(request.at("to"));
    const pcclResult_t result = pcclPost(session.comm(request), &to, request.value("tag", 0U), sent->data.data(),
                                         sent->data.size(), request.value("timeout_ms", PCCL_FOREVER), &sent->handle);
    const Json answer = answer_of(result);
    const std::scoped_lock lock(posts.mutex);
    if (result == pcclSuccess) posts.named[request.value("post", "")] = std::move(sent);
    return answer;
}

Json call_await_post(Session &, const Json &request) {
    const std::string name = request.value("post", "");
    Sent *sent = nullptr;
    {
        const std::scoped_lock lock(posts.mutex);
        sent = posts.named.at(name).get();
    }
    return answer_of(pcclAwaitPost(&sent->handle, request.value("timeout_ms", PCCL_FOREVER)));
}

/// "tag", "bytes" of the buffer, "timeout_ms"; "seed": the seed of the expected content.
Json call_receive(Session &session, const Json &request) {
    Bytes buffer(request.value("bytes", std::size_t{1} << 20));
    pcclMessageInfo_t info{};
    const pcclResult_t result = pcclReceive(session.comm(request), request.value("tag", 0U), buffer.data(), buffer.size(),
                                            request.value("timeout_ms", PCCL_FOREVER), &info);
    Json answer = answer_of(result);
    answer["from"] = name_of(info.from);
    answer["bytes"] = info.bytes;
    answer["sequence"] = info.sequence;
    buffer.resize(std::min(info.bytes, buffer.size()));
    if (result == pcclSuccess) answer["right"] = buffer == content(request.value("seed", std::uint64_t{0}), info.bytes);
    return answer;
}

Json call_mailbox(Session &session, const Json &request) {
    return answer_of(
        pcclSetMailbox(session.comm(request), request.value("bytes", std::uint64_t{1} << 30), request.value("messages", 4096U)));
}

/// Ends one connection to another peer, as a broken path does. "spared": the port of the master, which is not a peer.
Json call_break_link(Session &, const Json &request) {
    std::vector<int> lanes;
    for (int fd = 3; fd < 1024; ++fd) {
        sockaddr_storage address{};
        socklen_t length = sizeof address;
        if (::getpeername(fd, reinterpret_cast<sockaddr *>(&address), &length) != 0) continue;
        const auto *v4 = reinterpret_cast<const sockaddr_in *>(&address);
        const auto *v6 = reinterpret_cast<const sockaddr_in6 *>(&address);
        if (address.ss_family != AF_INET && address.ss_family != AF_INET6) continue;
        const std::uint16_t port = ntohs(address.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
        if (port != request.at("spared").get<std::uint16_t>()) lanes.push_back(fd);
    }
    if (!lanes.empty()) ::shutdown(lanes[std::random_device{}() % lanes.size()], SHUT_RDWR);
    Json answer = answer_of(pcclSuccess);
    answer["lanes"] = lanes.size();
    return answer;
}

/// The messages of the loop: each carries an amount and bytes that are computed from it.
class Gossip {
public:
    Gossip(Session &session, const Json &request)
        : session_(session), comm_(session.comm(request)), mass_(request.value("mass", std::uint64_t{1} << 40)),
          bytes_(request.value("bytes", std::size_t{100'000})), timeout_ms_(request.value("timeout_ms", 1000U)) {
        tools::require("pcclGetPeerId", pcclGetPeerId(comm_, &self_));
    }

    Json run() {
        while (!session_.stop) {
            if (sent_.size() < 4) send();
            settle(0);
            receive(1);
        }
        while (!sent_.empty()) {
            settle(0);
            receive(1);
        }
        return answer();
    }
    /// The messages that are in the mailbox.
    Json drain() {
        while (receive(0)) {
        }
        return answer();
    }

private:
    struct Tally {
        std::uint64_t messages = 0, amount = 0;
    };

    void send() {
        auto members = members_of(comm_);
        std::erase_if(members, [&](const auto &m) { return std::memcmp(&m, &self_, sizeof m) == 0; });
        if (members.empty() || mass_ < 2) return;
        const auto &to = members[random_() % members.size()];
        auto sent = std::make_unique<Sent>();
        sent->amount = mass_ / 2;
        sent->to = name_of(to);
        sent->data = content(sent->amount, random_() % 3 == 0 ? 64 : 64 + random_() % bytes_);
        std::memcpy(sent->data.data(), &sent->amount, 8);
        if (pcclPost(comm_, &to, kGossipTag, sent->data.data(), sent->data.size(), timeout_ms_, &sent->handle) != pcclSuccess)
            return;
        mass_ -= sent->amount;
        sent_.push_back(std::move(sent));
    }
    void settle(std::uint32_t timeout_ms) {
        std::erase_if(sent_, [&](const auto &sent) {
            const pcclResult_t outcome = pcclAwaitPost(&sent->handle, timeout_ms);
            if (outcome == pcclTimeout) return false;
            ++outcomes_[std::to_string(outcome)];
            if (outcome == pcclSuccess) {
                ++delivered_[sent->to].messages;
                delivered_[sent->to].amount += sent->amount;
            } else {
                mass_ += sent->amount;
            }
            return true;
        });
    }
    bool receive(std::uint32_t timeout_ms) {
        pcclMessageInfo_t info{};
        Bytes buffer(bytes_ + 64);
        if (pcclReceive(comm_, kGossipTag, buffer.data(), buffer.size(), timeout_ms, &info) != pcclSuccess) return false;
        buffer.resize(info.bytes);
        std::uint64_t amount = 0;
        std::memcpy(&amount, buffer.data(), 8);
        Bytes expected = content(amount, info.bytes);
        std::memcpy(expected.data(), &amount, 8);
        wrong_ += buffer != expected;
        const std::string from = name_of(info.from);
        if (sequences_[from] >= info.sequence) ++wrong_;
        sequences_[from] = info.sequence;
        ++received_[from].messages;
        received_[from].amount += amount;
        mass_ += amount;
        return true;
    }
    Json answer() const {
        Json result = answer_of(pcclSuccess);
        result["mass"] = mass_;
        result["wrong"] = wrong_;
        result["outcomes"] = outcomes_;
        result["rank"] = name_of(self_);
        for (const auto &[to, tally] : delivered_)
            result["delivered"][to] = {tally.messages, tally.amount};
        for (const auto &[from, tally] : received_)
            result["received"][from] = {tally.messages, tally.amount};
        return result;
    }

    Session &session_;
    pcclComm_t *comm_;
    std::mt19937_64 random_{std::random_device{}()};
    pcclPeerId_t self_{};
    std::uint64_t mass_;
    std::size_t bytes_;
    std::uint32_t timeout_ms_;
    std::deque<std::unique_ptr<Sent>> sent_;
    std::map<std::string, Tally> delivered_, received_;
    std::map<std::string, std::uint64_t> sequences_;
    std::map<std::string, int> outcomes_;
    int wrong_ = 0;
};

std::mutex gossiping;  ///< one thread at a time
std::unique_ptr<Gossip> gossip;

/// Runs until stop_loop is called and its own messages have an outcome.
Json call_gossip(Session &session, const Json &request) {
    const std::lock_guard lock(gossiping);
    gossip = std::make_unique<Gossip>(session, request);
    return gossip->run();
}
Json call_drain(Session &, const Json &) {
    const std::lock_guard lock(gossiping);
    return gossip->drain();
}

}  // namespace

void add_exchange_calls(CallTable &table) {
    table["rank"] = call_rank;
    table["members"] = call_members;
    table["set_graph"] = call_set_graph;
    table["neighbours"] = call_neighbours;
    table["post"] = call_post;
    table["await_post"] = call_await_post;
    table["receive"] = call_receive;
    table["mailbox"] = call_mailbox;
    table["break_link"] = call_break_link;
    table["gossip"] = call_gossip;
    table["drain"] = call_drain;
}

}  // namespace pccl::itest
