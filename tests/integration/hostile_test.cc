// Invalid bytes at the port of the master and of a peer. A reduce loop that runs meanwhile is not disturbed.
#include "common/mix.h"
#include "harness/raw_client.h"
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <fstream>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

namespace pccl::itest {
namespace {

enum class Target { kMaster, kPeer };

class Hostile : public ::testing::TestWithParam<Target> {
protected:
    World world;
    std::uint16_t peer_port = free_port();
    std::vector<int> loops;

    void SetUp() override {
        rlimit limit{};
        ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = limit.rlim_max;
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
        world.spawn({.port = peer_port});
        world.spawn();
        world.spawn();
        world.join_all(3);
        for (std::size_t i = 0; i < 3; ++i)
            loops.push_back(world[i].start("loop", {{"slot", i}, {"count", 4096}, {"thread", 1}}));
        for (std::size_t i = 0; i < 3; ++i)
            ASSERT_EQ(world[i].next_event().at("members"), 7);
    }

    std::uint16_t port() const { return GetParam() == Target::kMaster ? world.master_port() : peer_port; }

    /// Checks that the loop has continued and lost no peer, and that a newcomer can still join.
    void expect_undisturbed() {
        PeerProcess &newcomer = world.spawn();
        EXPECT_TRUE(has_code(newcomer.call("connect", {{"thread", 1}}), pcclSuccess));
        loops.push_back(newcomer.start("loop", {{"slot", 3}, {"count", 4096}, {"thread", 1}}));
        for (std::size_t i = 0; i < 4; ++i)
            EXPECT_EQ(world[i].next_event().at("members"), 15);
        world[0].call("stop_loop");
        for (std::size_t i = 0; i < 4; ++i) {
            const Json answer = world[i].finish(loops[i]);
            EXPECT_TRUE(has_code(answer, pcclSuccess));
            EXPECT_EQ(answer.at("lost"), 0);
            EXPECT_GT(answer.at("good"), 0);
        }
    }
};

std::uint64_t resident_bytes() {
    std::uint64_t total = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> total >> resident;
    return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::string random_bytes(std::uint64_t seed, std::size_t count) {
    std::string bytes(count, '\0');
    for (std::size_t i = 0; i < count; ++i)
        bytes[i] = static_cast<char>(tools::mix(seed + i));
    return bytes;
}

TEST_P(Hostile, RandomBytesDisturbNobody) {
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        RawClient client(port());
        ASSERT_TRUE(client.valid());
        client.send(random_bytes(seed, 1 + tools::mix(seed) % 3000));
    }
    RawClient much(port());
    for (int i = 0; i < 64 && much.send(random_bytes(7, 1 << 20)); ++i) {
    }
    EXPECT_TRUE(much.closed_within(10000)) << "the connection of a flood of noise stays open";
    expect_undisturbed();
}

TEST_P(Hostile, HugeLengthsDisturbNobody) {
    const auto before = world.call_all("memory");
    std::vector<RawClient> clients;
    for (std::size_t zeros = 0; zeros < 24; ++zeros) {
        for (const char fill : {'\xff', '\x7f'}) {
            clients.emplace_back(port());
            ASSERT_TRUE(clients.back().valid());
            clients.back().send(std::string(zeros, '\0') + std::string(64, fill));
        }
    }
    std::this_thread::sleep_for(
        Millis(300));  // time for an allocation that must not happen, because no event can show its absence
    const auto after = world.call_all("memory");
    EXPECT_LT(after[0].at("peak").get<std::uint64_t>(), before[0].at("peak").get<std::uint64_t>() + (256 << 20));
    expect_undisturbed();
}

TEST_P(Hostile, SilenceAfterHalfAMessageDisturbsNobody) {
    std::vector<RawClient> clients;
    for (std::size_t length = 1; length < 40; ++length) {
        clients.emplace_back(port());
        ASSERT_TRUE(clients.back().valid());
        clients.back().send(std::string(length, '\1'));
    }
    std::this_thread::sleep_for(Millis(300));  // the silence under test
    expect_undisturbed();
}

TEST_P(Hostile, SlowConnectionsDisturbNobody) {
    std::vector<RawClient> clients;
    for (int i = 0; i < 100; ++i) {
        clients.emplace_back(port());
        ASSERT_TRUE(clients.back().valid());
    }
    for (int round = 0; round < 20; ++round) {
        for (RawClient &client : clients)
            client.send(std::string(1, '\0'));
        std::this_thread::sleep_for(Millis(50));  // the slow rate under test
    }
    expect_undisturbed();
}

TEST_P(Hostile, TwoThousandIdleConnectionsDisturbNobody) {
    std::vector<RawClient> clients;
    for (int i = 0; i < 2000; ++i) {
        clients.emplace_back(port());
        ASSERT_TRUE(clients.back().valid()) << "connection " << i;
    }
    expect_undisturbed();
}

TEST_P(Hostile, TenThousandConnectionsUseLittleMemory) {
    constexpr std::size_t kConnections = 10000;
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    // The master runs in this process and needs a separate descriptor for each connection, up to its limit.
    const std::size_t needed = kConnections + (GetParam() == Target::kMaster ? 8192 : 0) + 200;
    if (files.rlim_cur < needed) GTEST_SKIP() << "needs " << needed << " open files, and ulimit -Hn allows " << files.rlim_cur;
    const auto memory = [&] {
        return GetParam() == Target::kMaster ? resident_bytes()
                                             : world[0].call("memory", {{"thread", 2}}).at("now").get<std::uint64_t>();
    };
    const std::uint64_t before = memory();
    std::vector<RawClient> clients;
    clients.reserve(kConnections);
    for (std::size_t i = 0; i < kConnections; ++i) {
        clients.emplace_back(port());
        ASSERT_TRUE(clients.back().valid()) << "connection " << i;
        // The first half of a valid first message keeps the connection open as long as the limits allow.
        clients.back().send(std::string("\xff\x03\0\0", 4) + std::string(36, '\0'));
    }
    const std::uint64_t after = memory();
    RecordProperty("grown_kib", static_cast<int>((after - std::min(after, before)) >> 10));
    if (!kSanitized) {
        EXPECT_LT(after, before + (std::uint64_t{64} << 20));
    }
    expect_undisturbed();
}

/// Sends valid beginnings of a greeting, one byte at a time. The time limit begins with the connection and not with the last
/// byte.
TEST_P(Hostile, SlowGreetingsAreCutOff) {
    const bool at_master = GetParam() == Target::kMaster;
    std::vector<RawClient> clients;
    for (int i = 0; i < 64; ++i) {
        clients.emplace_back(port());
        ASSERT_TRUE(clients.back().valid());
        if (at_master) clients.back().send(std::string("\xff\x03\0\0", 4));  // announces 1023 bytes
    }
    const auto begin = std::chrono::steady_clock::now();
    std::size_t open = clients.size();
    while (open > 0 && std::chrono::steady_clock::now() - begin < std::chrono::seconds(20)) {
        open = 0;
        for (RawClient &client : clients) {
            client.send(std::string(1, at_master ? '\0' : 'C'));
            open += !client.closed_within(1);
        }
        std::this_thread::sleep_for(Millis(200));  // the slow rate under test
    }
    EXPECT_EQ(open, 0u);
    expect_undisturbed();
}

TEST_P(Hostile, ShortConnectionsDisturbNobody) {
    for (int i = 0; i < 2000; ++i)
        RawClient client(port());
    expect_undisturbed();
}

INSTANTIATE_TEST_SUITE_P(At, Hostile, ::testing::Values(Target::kMaster, Target::kPeer),
                         [](const auto &param) { return param.param == Target::kMaster ? "TheMaster" : "APeer"; });

}  // namespace
}  // namespace pccl::itest
