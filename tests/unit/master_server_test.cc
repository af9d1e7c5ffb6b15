// A master's server with raw sockets as peers: the guarantees for members, and the limits of connections without Hello.
#include "master_client.h"

#include <csignal>
#include <random>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/log.h"

namespace pccl::master::test {
namespace {

using std::chrono::seconds;

wire::Bytes length_word(std::uint32_t length) {
    wire::Bytes bytes(sizeof length);
    std::memcpy(bytes.data(), &length, sizeof length);
    return bytes;
}

std::size_t open_files() {
    std::size_t count = 0;
    for (int fd = 0; fd < 4096; ++fd)
        count += ::fcntl(fd, F_GETFD) >= 0;
    return count;
}

/// A peer that has received Welcome: a member or, if there are others, a newcomer.
Client joined(const Running &running) {
    Client client(running.address());
    EXPECT_TRUE(client.hello());
    EXPECT_TRUE(client.await<wire::Welcome>());
    return client;
}

class MasterServer : public ::testing::Test {
protected:
    static void SetUpTestSuite() { set_log_level(LogLevel::off); }  // these tests provoke warnings by the thousand
};

TEST_F(MasterServer, WelcomesTheFirstPeerAndGivesItAView) {
    Running running(on_loopback());
    Client client(running.address());
    ASSERT_TRUE(client.hello(7));
    const auto welcome = client.await<wire::Welcome>();
    ASSERT_TRUE(welcome);
    EXPECT_EQ(welcome->version, wire::kVersion);
    EXPECT_NE(welcome->secret, Secret{});
    EXPECT_NE(welcome->secret, welcome->run);
    const auto view = client.await<wire::View>();
    ASSERT_TRUE(view);
    EXPECT_EQ(view->ring, std::vector<PeerId>{welcome->you});
    const auto done = client.await<wire::CallDone>();
    ASSERT_TRUE(done);
    EXPECT_EQ(done->code, pcclSuccess);
}

TEST_F(MasterServer, AcceptsFramesSplitAtEveryByte) {
    Running running(on_loopback());
    Client client(running.address());
    const int on = 1;
    ::setsockopt(client.fd(), IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
    for (const std::byte byte : wire::encode(wire::Hello{}))
        ASSERT_TRUE(client.send(std::span(&byte, 1)));
    EXPECT_TRUE(client.await<wire::Welcome>());
    for (const std::byte byte : wire::encode(wire::AskPending{1, 0}))
        ASSERT_TRUE(client.send(std::span(&byte, 1)));
    EXPECT_TRUE(client.await<wire::PendingAnswer>());
}

TEST_F(MasterServer, AcceptsManyFramesInOneWrite) {
    Running running(on_loopback());
    Client client(running.address());
    wire::Bytes bytes = wire::encode(wire::Hello{});
    for (std::uint64_t k = 0; k < 1000; ++k) {
        const wire::Bytes more = wire::encode(wire::AskPending{1, k});
        bytes.insert(bytes.end(), more.begin(), more.end());
    }
    ASSERT_TRUE(client.send(bytes));
    for (std::uint64_t k = 0; k < 1000; ++k) {
        const auto answer = client.await<wire::PendingAnswer>();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->k, k);
    }
}

TEST_F(MasterServer, ClosesConnectionsWithInvalidLengths) {
    Running running(on_loopback());
    for (const std::uint32_t length : {0u, 0x80000000u, 0xffffffffu, 1025u, 0x10000000u}) {
        Client client(running.address());
        client.send(length_word(length));
        EXPECT_TRUE(client.await_end()) << length;
    }
    joined(running);
}

TEST_F(MasterServer, ClosesPeersWithInvalidLengths) {
    Running running(on_loopback());
    for (const std::uint32_t length : {0u, 0x80000000u, 0xffffffffu, static_cast<std::uint32_t>(wire::kMaxControlBytes + 1)}) {
        Client client = joined(running);
        client.send(length_word(length));
        EXPECT_TRUE(client.await_end()) << length;
    }
    joined(running);
}

TEST_F(MasterServer, SurvivesRandomBytes) {
    Running running(on_loopback());
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    for (int i = 0; i < 200; ++i) {
        Client client(running.address());
        const bool introduced = i % 2 == 0;
        if (introduced) client.hello();
        wire::Bytes bytes(1 + random() % 5000);
        for (std::byte &byte : bytes)
            byte = static_cast<std::byte>(random());
        if (i % 4 < 2) {  // a valid length, so that the decoder reads the rest
            const auto length = static_cast<std::uint32_t>(std::max<std::size_t>(1, bytes.size() % 1000));
            const auto word = length_word(length);
            bytes.insert(bytes.begin(), word.begin(), word.end());
            bytes.resize(word.size() + length);
            bytes[word.size()] = static_cast<std::byte>(random() % 20);
        }
        client.send(bytes);
    }
    joined(running);
}

TEST_F(MasterServer, RefusesMessagesBeforeHelloWithAReason) {
    Running running(on_loopback());
    Client client(running.address());
    ASSERT_TRUE(client.send(wire::ToMaster(wire::Done{})));
    const auto removed = client.await<wire::Removed>();
    ASSERT_TRUE(removed);
    EXPECT_EQ(removed->code, pcclInvalidUsage);
    EXPECT_NE(removed->why.find("before Hello"), std::string::npos) << removed->why;
    EXPECT_TRUE(client.await_end());
}

TEST_F(MasterServer, SendsTheReasonDespiteLaterInput) {
    Running running(on_loopback());
    Client client(running.address());
    wire::Bytes bytes = wire::encode(wire::Done{});
    bytes.resize(bytes.size() + (std::size_t{1} << 20));  // unread bytes at close() would reset the connection
    client.send(bytes);
    EXPECT_TRUE(client.await<wire::Removed>());
}

TEST_F(MasterServer, ClosesPartialMessagesAfterTheHelloTimeout) {
    ServerOptions options = on_loopback();
    options.protocol.hello_timeout = milliseconds(200);
    Running running(options);
    Client silent(running.address());
    Client half(running.address());
    const wire::Bytes hello = wire::encode(wire::Hello{});
    ASSERT_TRUE(half.send(std::span(hello).first(9)));
    EXPECT_TRUE(silent.await<wire::Removed>());
    EXPECT_TRUE(silent.await_end());
    EXPECT_TRUE(half.await_end());
}

TEST_F(MasterServer, ClosesAConnectionThatSendsSingleBytes) {
    ServerOptions options = on_loopback();
    options.protocol.hello_timeout = milliseconds(300);
    Running running(options);
    Client slow(running.address());
    const auto begin = monotonic_now();
    const wire::Bytes word = length_word(wire::kMaxHelloBytes);
    const std::byte zero{};
    bool sent = slow.send(word);
    while (sent && !slow.ended() && monotonic_now() - begin < kPatience) {
        sent = slow.send(std::span(&zero, 1));
        slow.receive(milliseconds(20));
    }
    EXPECT_LT(monotonic_now() - begin, seconds(10));
}

TEST_F(MasterServer, KeepsItsMemberAmongThousandsOfIdleConnections) {
    ServerOptions options = on_loopback();
    options.protocol.heartbeat_interval = milliseconds(50);
    options.protocol.heartbeat_timeout = seconds(5);
    options.protocol.hello_timeout = seconds(60);
    Running running(options);
    Client member = joined(running);
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    const auto wanted = std::min<std::size_t>(2000, (files.rlim_cur - 200) / 2);
    std::vector<Client> idle;
    for (std::size_t i = 0; i < wanted; ++i)
        idle.emplace_back(running.address());
    for (int beat = 0; beat < 20; ++beat) {
        ASSERT_TRUE(member.send(wire::ToMaster(wire::Heartbeat{})));
        ASSERT_TRUE(member.await<wire::Heartbeat>(seconds(5)));
    }
}

TEST_F(MasterServer, MakesRoomByClosingTheOldestWithoutHello) {
    ServerOptions options = on_loopback();
    options.max_connections = 4;
    options.protocol.hello_timeout = seconds(60);
    Running running(options);
    Client member = joined(running);
    Client first(running.address());
    Client second(running.address());
    Client third(running.address());
    Client fourth(running.address());
    EXPECT_TRUE(first.await_end());
    EXPECT_FALSE(second.await_end(milliseconds(50)));
    ASSERT_TRUE(member.send(wire::ToMaster(wire::AskPending{1, 0})));
    EXPECT_TRUE(member.await<wire::PendingAnswer>());
}

TEST_F(MasterServer, RefusesNewcomersWithAReasonWhenFull) {
    ServerOptions options = on_loopback();
    options.max_connections = 2;
    Running running(options);
    Client first = joined(running);
    Client second = joined(running);
    Client third(running.address());
    const auto removed = third.await<wire::Removed>();
    ASSERT_TRUE(removed);
    EXPECT_NE(removed->why.find("limit of 2"), std::string::npos) << removed->why;
    EXPECT_TRUE(third.await_end());
    EXPECT_FALSE(first.await_end(milliseconds(50)));
    EXPECT_FALSE(second.await_end(milliseconds(50)));
}

TEST_F(MasterServer, DropsAMemberThatNeverReads) {
    ServerOptions options = on_loopback();
    options.protocol.heartbeat_timeout = seconds(60);
    options.max_output_bytes = std::size_t{1} << 20;
    Running running(options);
    Client deaf(running.address(), 4096);
    ASSERT_TRUE(deaf.hello());
    // Each reply is as long as its request, so the master's limit is reached after a known number of requests.
    wire::Bytes questions;
    std::uint64_t k = 0;
    const auto more = [&] {
        questions.clear();
        for (int i = 0; i < 10000; ++i) {
            const wire::Bytes one = wire::encode(wire::AskPending{1, k++ % 1000});
            questions.insert(questions.end(), one.begin(), one.end());
        }
    };
    const auto begin = monotonic_now();
    bool sent = true;
    while (sent && monotonic_now() - begin < seconds(60)) {
        more();
        sent = deaf.send(questions);
    }
    EXPECT_FALSE(sent) << "the master still listens to a peer that never reads";
    joined(running);
}

TEST_F(MasterServer, ReportsALostPeerToTheOthers) {
    Running running(on_loopback());
    Client first = joined(running);
    {
        Client second = joined(running);
        EXPECT_TRUE(first.await<wire::OpenLink>());
        EXPECT_TRUE(second.await<wire::OpenLink>());
    }
    EXPECT_TRUE(first.await<wire::CloseLink>());
}

TEST_F(MasterServer, ReadsLeaveBeforeTheReset) {
    Running running(on_loopback());
    Client first = joined(running);
    {
        Client second = joined(running);
        EXPECT_TRUE(first.await<wire::OpenLink>());
        second.send(wire::ToMaster(wire::Leave{}));
        const linger reset{1, 0};
        ::setsockopt(second.fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    EXPECT_TRUE(first.await<wire::CloseLink>());
    joined(running);
}

TEST_F(MasterServer, SurvivesConnectionsThatResetAtOnce) {
    Running running(on_loopback());
    for (int i = 0; i < 500; ++i) {
        Client client(running.address());
        const linger reset{1, 0};
        ::setsockopt(client.fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    joined(running);
}

TEST_F(MasterServer, DoesNotWaitForAPeerThatNeverClosesItsEnd) {
    ServerOptions options = on_loopback();
    options.max_connections = 2;
    Running running(options);
    Client refused(running.address());
    ASSERT_TRUE(refused.send(wire::ToMaster(wire::Done{})));
    ASSERT_TRUE(refused.await<wire::Removed>());
    ASSERT_TRUE(refused.await_end());
    // The peer's end stays open. After the time limit the master has closed its end, and sending fails with a reset.
    const auto begin = monotonic_now();
    const std::byte zero{};
    while (refused.send(std::span(&zero, 1)) && monotonic_now() - begin < kPatience)
        std::this_thread::sleep_for(milliseconds(50));
    EXPECT_LT(monotonic_now() - begin, seconds(10));
}

TEST_F(MasterServer, InterruptEndsAllConnectionsAndFreesEverything) {
    { const Running first(on_loopback()); }  // libuv keeps a pipe for the process from its first loop on
    const std::size_t before = open_files();
    {
        Running running(on_loopback());
        Client member = joined(running);
        Client newcomer = joined(running);
        Client client(running.address());
        Client half(running.address());
        half.send(length_word(100));
        running.stop();
        EXPECT_TRUE(member.await_end());
        EXPECT_TRUE(newcomer.await_end());
        EXPECT_TRUE(client.await_end());
        EXPECT_THROW(Client{running.address()}, std::runtime_error);
    }
    EXPECT_EQ(open_files(), before);
}

TEST_F(MasterServer, MayBeInterruptedBeforeItRunsAndMoreThanOnce) {
    auto server = Server::create(on_loopback());
    ASSERT_TRUE(server);
    (*server)->interrupt();
    (*server)->interrupt();
    (*server)->run();
    (*server)->interrupt();
}

TEST_F(MasterServer, MayBeDestroyedWithoutRunning) {
    auto server = Server::create(on_loopback());
    ASSERT_TRUE(server);
    Client waiting((*server)->address());
    server->reset();
    EXPECT_TRUE(waiting.await_end());
}

TEST_F(MasterServer, StartsAgainOnTheSamePort) {
    ServerOptions options = on_loopback();
    for (int i = 0; i < 3; ++i) {
        Running running(options);
        options.listen = running.address();
        Client client = joined(running);
        running.stop();
        EXPECT_TRUE(client.await_end());
    }
}

TEST_F(MasterServer, ReportsWhyItCannotListen) {
    Running running(on_loopback());
    ServerOptions options;
    options.listen = running.address();
    const auto second = Server::create(options);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, pcclMasterConnectionFailed);
    EXPECT_NE(second.error().what.find(to_string(options.listen)), std::string::npos) << second.error().what;
    EXPECT_NE(second.error().what.find("Address already in use"), std::string::npos) << second.error().what;
}

TEST_F(MasterServer, SeveralServersAreIndependent) {
    Running first(on_loopback()), second(on_loopback());
    Client a(first.address()), b(second.address());
    ASSERT_TRUE(a.hello());
    ASSERT_TRUE(b.hello());
    const auto of_a = a.await<wire::Welcome>(), of_b = b.await<wire::Welcome>();
    ASSERT_TRUE(of_a && of_b);
    EXPECT_NE(of_a->run, of_b->run);
    EXPECT_EQ(of_a->you, of_b->you);
    first.stop();
    EXPECT_TRUE(a.await_end());
    EXPECT_FALSE(b.await_end(milliseconds(50)));
}

TEST_F(MasterServer, ServesIpv6AndBothFromTheUnspecifiedAddress) {
    const auto probe = Server::create(on_loopback(true));
    if (!probe) GTEST_SKIP() << "no IPv6 on this system: " << probe.error().what;
    {
        Running running(on_loopback(true));
        EXPECT_EQ(to_string(running.address()), "[::1]:" + std::to_string(running.address().port));
        joined(running);
    }
    ServerOptions options;
    options.listen = {*parse_ip("::"), 0};
    Running running(options);
    Client v6(loopback(true, running.address().port)), v4(loopback(false, running.address().port));
    ASSERT_TRUE(v6.hello());
    ASSERT_TRUE(v6.await<wire::Welcome>());
    ASSERT_TRUE(v4.hello());
    ASSERT_TRUE(v4.await<wire::Welcome>());
    // The member receives the newcomer's IPv4 address, not one mapped into IPv6.
    const auto link = v6.await<wire::OpenLink>();
    ASSERT_TRUE(link);
    const auto other = v4.await<wire::OpenLink>();
    ASSERT_TRUE(other);
    EXPECT_EQ(to_string((link->dial ? link : other)->address.ip), link->dial ? "127.0.0.1" : "::1");
}

TEST_F(MasterServer, PausesInsteadOfSpinningWithoutFileDescriptors) {
    ServerOptions options = on_loopback();
    Running running(options);
    Client member = joined(running);
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    // A socket made beforehand connects although no further descriptor can be opened.
    Client early(running.address());
    EXPECT_TRUE(early.hello());
    EXPECT_TRUE(early.await<wire::Welcome>());
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int lowest = ::dup(socket);
    ::close(lowest);
    rlimit tight = before;
    tight.rlim_cur = static_cast<rlim_t>(lowest);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(running.address().port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(socket, reinterpret_cast<sockaddr *>(&to), sizeof to), 0);

    rusage begin{}, end{};
    ::getrusage(RUSAGE_SELF, &begin);
    std::this_thread::sleep_for(milliseconds(600));
    ::getrusage(RUSAGE_SELF, &end);
    ASSERT_TRUE(member.send(wire::ToMaster(wire::AskPending{2, 0})));
    member.send(wire::ToMaster(wire::Heartbeat{}));
    EXPECT_TRUE(member.await<wire::Heartbeat>());
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    const auto us = [](const rusage &u) {
        return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
    };
    EXPECT_LT(us(end) - us(begin), 300000) << "microseconds of processor time in 600 ms of waiting";

    // When descriptors are available again, the waiting connection is served.
    const wire::Bytes hello = wire::encode(wire::Hello{});
    EXPECT_EQ(::send(socket, hello.data(), hello.size(), MSG_NOSIGNAL), static_cast<ssize_t>(hello.size()));
    pollfd wait{socket, POLLIN, 0};
    EXPECT_EQ(::poll(&wait, 1, static_cast<int>(kPatience.count())), 1);
    std::byte byte{};
    EXPECT_EQ(::recv(socket, &byte, 1, 0), 1);
    ::close(socket);
}

/// A server in a separate process, which a test can stop as a whole.
class ServerProcess {
public:
    explicit ServerProcess(const ServerOptions &options) {
        // The child creates the server: if two processes shared an event loop, one would remove the watches of the other.
        int ends[2];
        if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
        pid_ = ::fork();
        if (pid_ == 0) {
            auto server = Server::create(options);
            if (!server) ::_exit(1);
            const std::uint16_t port = (*server)->address().port;
            if (::write(ends[1], &port, sizeof port) != sizeof port) ::_exit(1);
            (*server)->run();
            ::_exit(0);
        }
        ::close(ends[1]);
        address = options.listen;
        const bool told = ::read(ends[0], &address.port, sizeof address.port) == sizeof address.port;
        ::close(ends[0]);
        if (!told) throw std::runtime_error("the server's process did not start");
    }
    ~ServerProcess() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    void signal(int number) const { ::kill(pid_, number); }

    SocketAddress address;

private:
    pid_t pid_ = -1;
};

TEST_F(MasterServer, RemovesNoPeerForTheTimeItWasStopped) {
    ServerOptions options = on_loopback();
    options.protocol.heartbeat_interval = milliseconds(50);
    options.protocol.heartbeat_timeout = milliseconds(1200);
    ServerProcess process(options);
    Client member(process.address);
    ASSERT_TRUE(member.hello());
    ASSERT_TRUE(member.await<wire::Welcome>());
    const auto beat = [&](milliseconds duration) {
        const auto begin = monotonic_now();
        while (monotonic_now() - begin < duration) {
            ASSERT_TRUE(member.send(wire::ToMaster(wire::Heartbeat{})));
            std::this_thread::sleep_for(milliseconds(50));
        }
    };
    for (const milliseconds stop : {milliseconds(500), milliseconds(900), milliseconds(3000)}) {
        beat(milliseconds(200));
        process.signal(SIGSTOP);
        beat(stop);
        process.signal(SIGCONT);
        beat(milliseconds(200));
    }
    ASSERT_TRUE(member.send(wire::ToMaster(wire::AskPending{1, 0})));
    EXPECT_TRUE(member.await<wire::PendingAnswer>());
}

TEST_F(MasterServer, RemovesAMemberThatIsSilent) {
    ServerOptions options = on_loopback();
    options.protocol.heartbeat_interval = milliseconds(50);
    options.protocol.heartbeat_timeout = milliseconds(300);
    Running running(options);
    Client member = joined(running);
    const auto removed = member.await<wire::Removed>();
    ASSERT_TRUE(removed);
    EXPECT_NE(removed->why.find("silent"), std::string::npos) << removed->why;
    EXPECT_TRUE(member.await_end());
}

}  // namespace
}  // namespace pccl::master::test
